//! Parquet, by the crate of Apache Arrow's project, without Arrow: rows of the columns that are needed.

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deberta_converters::error::{Error, Printable, Result};
use deberta_converters::opening::open;
use parquet::basic::Compression;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::{Type, TypePtr};

use super::columns::Choice;
use super::records::Found;
use crate::backend::apart;
use crate::report::name_of;

/// Reads at most `limit` rows with a label, on a thread of its own: what the reader gives up on becomes an error.
///
/// # Errors
/// What is no Parquet; a compression that is not built in; a column that is not there.
pub(super) fn read(path: &Path, columns: &Choice, limit: usize) -> Result<Found> {
    let (owned, columns) = (path.to_owned(), columns.clone());
    apart("read it as Parquet", move || rows(owned, &columns, limit)).map_err(|error| error.in_file(path))
}

fn rows(path: PathBuf, columns: &Choice, limit: usize) -> Result<Found> {
    let wrong = |error: parquet::errors::ParquetError| Error::malformed(format!("Parquet: {error}"));
    let file = open(&path)?;
    let reader = SerializedFileReader::new(file).map_err(wrong)?;
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    let chosen = columns.among(&names).map_err(Error::malformed)?;
    let needed = [Some(chosen.text), chosen.pair, Some(chosen.label)];
    for (at, name) in names.iter().enumerate().filter(|(at, _)| needed.contains(&Some(*at))) {
        require_known_compression(&reader, at, name, &path)?;
    }
    let fields = schema.get_fields().iter().enumerate().filter(|(at, _)| needed.contains(&Some(*at)));
    let fields: Vec<TypePtr> = fields.map(|(_, field)| Arc::clone(field)).collect();
    let needed = Type::group_type_builder(schema.name()).with_fields(fields).build().map_err(wrong)?;
    let mut found = Found::default();
    for (at, row) in reader.get_row_iter(Some(needed)).map_err(wrong)?.enumerate() {
        if found.is_full(limit) {
            break;
        }
        let row = row.map_err(wrong)?;
        let mut cells = vec![None; names.len()];
        for (name, field) in row.get_column_iter() {
            if let Some(cell) = names.iter().position(|known| known == name).and_then(|at| cells.get_mut(at))
            {
                *cell = text(field).map(Cow::Owned);
            }
        }
        found
            .add(format!("{}[{at}]", name_of(&path)), cells, chosen)
            .map_err(|why| Error::malformed(format!("row {at}: {why}")))?;
    }
    Ok(found)
}

/// Checks that a column is compressed as this program reads it, without C code: zstd has no other, and brotli is rare.
fn require_known_compression(
    reader: &SerializedFileReader<File>,
    field: usize,
    name: &str,
    path: &Path,
) -> Result<()> {
    let metadata = reader.metadata();
    let schema = metadata.file_metadata().schema_descr();
    let leaves = || (0..schema.num_columns()).filter(|&leaf| schema.get_column_root_idx(leaf) == field);
    for column in metadata.row_groups().iter().flat_map(|group| leaves().map(|leaf| group.column(leaf))) {
        let codec = match column.compression() {
            Compression::ZSTD(_) => "zstd",
            Compression::BROTLI(_) => "brotli",
            Compression::LZO => "lzo",
            _ => continue,
        };
        let (name, file) = (Printable(name), name_of(path));
        let why = format!(
            "Parquet: column \"{name}\" is compressed by {codec}; snappy, gzip, lz4 and none are read: \
             pandas.read_parquet(\"{file}\").to_parquet(\"{file}\", compression=\"snappy\") writes it so"
        );
        return Err(Error::unsupported(why));
    }
    Ok(())
}

/// A value as text; nothing for null, NaN, and what is no text or number.
fn text(field: &Field) -> Option<String> {
    let number = |number: f64| (!number.is_nan()).then(|| number.to_string());
    match field {
        Field::Str(text) => Some(text.clone()),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).ok().map(str::to_owned),
        Field::Float(value) => number(f64::from(*value)),
        Field::Double(value) => number(*value),
        Field::Bool(_)
        | Field::Byte(_)
        | Field::Short(_)
        | Field::Int(_)
        | Field::Long(_)
        | Field::UByte(_)
        | Field::UShort(_)
        | Field::UInt(_)
        | Field::ULong(_) => Some(field.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::super::Columns;
    use super::*;

    /// Writes three rows: texts a, nothing and c, labels 1, NaN and none.
    fn write(path: &Path, compression: Compression) {
        let schema = "message rows { required binary text (UTF8); optional double label; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let file = File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let texts: Vec<ByteArray> = ["a", "", "c"].into_iter().map(ByteArray::from).collect();
        column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&[1.0, f64::NAN], Some(&[1, 1, 0]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn rows_have_texts_and_labels() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let columns = Choice::Named(Columns::default());
        let gzip = Compression::GZIP(Default::default());
        for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, gzip, Compression::LZ4_RAW] {
            write(&path, compression);
            let found = read(&path, &columns, usize::MAX).unwrap();
            assert_eq!((found.records.len(), found.without_label), (1, 2), "{compression:?}");
            assert_eq!(
                (found.records[0].label.as_str(), found.records[0].place.as_str()),
                ("1", "a.parquet[0]")
            );
        }
        // As if it were compressed by zstd: the codec behind the path of the column, in the metadata.
        write(&path, Compression::UNCOMPRESSED);
        let mut bytes = std::fs::read(&path).unwrap();
        let codec = b"\x19\x18\x04text\x15\x00";
        let at = bytes.windows(codec.len()).position(|window| window == codec).unwrap();
        bytes[at + codec.len() - 1] = 2 * 6;
        std::fs::write(&path, bytes).unwrap();
        let error = read(&path, &columns, 1).unwrap_err().to_string();
        assert!(error.contains("column \"text\" is compressed by zstd; snappy, gzip, lz4"), "{error}");
        std::fs::write(&path, "PAR1 no table PAR1").unwrap();
        assert!(read(&path, &columns, 1).is_err());
    }
}
