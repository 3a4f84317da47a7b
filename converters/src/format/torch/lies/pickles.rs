//! Lies of the pickle itself: what it calls, and how it is nested.

use super::pickled;
use crate::error::Kind;
use crate::format::TensorFile;
use crate::format::torch::testing::{open_bytes, refusal};

#[test]
fn calls_of_every_kind_are_refused_by_name() {
    for pickle in [
        &b"cos\nsystem\n(Vtrue\ntR."[..],
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.",
        b"(Vtrue\nios\nsystem\n.",
        b"(cos\nsystem\nVtrue\no.",
        b"cos\nsystem\n(Vtrue\nt\x81.",
        b"}Vx\ncos\nsystem\n(Vtrue\ntRs.",
    ] {
        for file in [pickled(pickle), pickle.to_vec()] {
            let error = open_bytes(file).unwrap_err();
            assert!(error.to_string().contains("refuses to call os.system"), "{error}");
            assert_eq!(error.kind(), Kind::Refused);
        }
    }
    for (pickle, words) in [
        (&b"c__builtin__\neval\n."[..], "refuses to call builtins.eval"),
        (b"ctorch.storage\n_load_from_bytes\n.", "refuses to call torch.storage._load_from_bytes"),
        (b"ctorch.storage\nUntypedStorage\n(I4\ntR.", "refuses to call a storage class"),
        (b"ctorch\nFloatStorage\n(I4\ntR.", "refuses to call a storage class"),
        (b"Vx\n)R.", "refuses to call a string"),
        (b"ctorch\nSize\n((I1\nttR(I1\ntR.", "refuses to call a tuple"),
        (b"\x82\x01.", "refuses to call Python's extension 1"),
        (b"ctorch\nSize\n}b.", "refuses to set the state of a object"),
        (b"ctorch\nSize\n(I1\ne.", "refuses to add items to a object"),
        (b"(Vmodule\nNNNNtQ.", "refuses the persistent id of a module"),
    ] {
        let message = refusal(pickled(pickle));
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn pickles_that_break_the_rules() {
    for (pickle, words) in [
        (&b""[..], "truncated"),
        (b"}", "truncated"),
        (b".", "the stack is empty"),
        (b"t.", "no mark is set"),
        (b"N(0t.", "no mark is set"),
        (b"N(R.", "the stack is empty"),
        (b"h\x05.", "memo 5 was never set"),
        (b"Nr\xff\xff\xff\xff.", "a memo number that no pickle gets to"),
        (b"q\0.", "the stack is empty"),
        (b"}(Va\nu.", "a key without a value"),
        (b"}Va\na.", "refuses to add items"),
        (b"NN\x93.", "the name of a global is no string"),
        (b"\x80\x09.", "pickle protocol 9"),
        (b"\x97.", "a buffer that is not in the file"),
        (b"P123\n.", "a persistent id as text"),
        (b"\x00.", "0x00 is no pickle instruction"),
        (b"NQ.", "describes no storage"),
        (b"(Vstorage\nctorch\nFloatStorage\nV0\nNI1\ntQ.", "describes no storage"),
        (b"ccollections\nOrderedDict\n(NNtR.", "wrong arguments for Dict"),
        (b"((VstoragetQ.", "no line end"),
    ] {
        let message = refusal(pickled(pickle));
        assert!(
            message.starts_with("model.bin: data.pkl at byte ") && message.contains(words),
            "{pickle:?}: {message}"
        );
    }
}

#[test]
fn a_dict_with_a_key_twice() {
    let tensor = "ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI6\ntQI0\n(I2\nt(I1\ntI00\n}tR";
    assert!(
        refusal(pickled(format!("}}(Vw\n{tensor}Vw\n{tensor}u.")))
            .contains("key \"w\" occurs twice in a dict")
    );
    let nested = format!("}}(Va\n}}Vb\n{tensor}sVa.b\n{tensor}u.");
    assert_eq!(refusal(pickled(nested)), "model.bin: tensor \"a.b\": this name occurs twice");
    let key_is_tuple = format!("}}(I1\nt{tensor}s.");
    assert!(refusal(pickled(key_is_tuple)).contains("a tuple as the name of a tensor"));
}

#[test]
fn containers_that_contain_themselves() {
    let tensor = "ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI6\ntQI0\n(I2\nt(I1\ntI00\n}tR";
    let cycle = format!("}}q\0(Vself\nh\0Vw\n{tensor}u.");
    assert!(refusal(pickled(cycle)).contains("the dict at \"self\" also occurs elsewhere in the file"));
    let wrapped = format!("}}q\0(Vmodel\nh\0Vw\n{tensor}u.");
    assert!(refusal(pickled(wrapped)).contains("nested more than 32 deep"));
    assert!(refusal(pickled("]q\0h\0a.")).contains("holds a list of 1 item"));
    let beside = format!("}}(Vw\n{tensor}Vlist\n]q\0h\0au.");
    assert_eq!(open_bytes(pickled(beside)).unwrap().extras()[0].what, "list of 1 item");
}

/// Thirty levels of lists, each ten times the one below: 10^30 items, shared.
#[test]
fn billion_laughs() {
    let tensor = "ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI6\ntQI0\n(I2\nt(I1\ntI00\n}tR";
    let laugh = |open: &str, item: &dyn Fn(usize) -> String, close: &str| {
        let mut pickle = format!("Vlol\np0\n0{tensor}p100\n0");
        for level in 1..30 {
            let items: String = (0..10).map(|index| format!("{}g{}\n", item(index), level - 1)).collect();
            pickle += &format!("{open}({items}{close}p{level}\n0");
        }
        pickle
    };
    let lists = laugh("]", &|_| String::new(), "e") + &format!("}}(Vw\n{tensor}Vlol\ng29\nu.");
    assert_eq!(open_bytes(pickled(lists)).unwrap().extras()[0].what, "list of 10 items");
    let dicts =
        laugh("}", &|index| format!("V{index}\n"), "u").replacen("Vlol\np0\n0", &format!("{tensor}p0\n0"), 1)
            + "g29\n.";
    assert!(refusal(pickled(dicts)).contains("also occurs elsewhere in the file"));
}

#[test]
fn very_deep_nesting() {
    let deep = [vec![b'('; 1_000_000], vec![b't'; 1_000_000], b".".to_vec()].concat();
    assert!(refusal(pickled(deep)).contains("holds a tuple of 1 item"));
    let nested_dicts = format!(
        "{}{}{}.",
        "}Vk\n".repeat(100_000),
        "ctorch._utils\n_rebuild_meta_tensor_no_storage\n)R",
        "s".repeat(100_000)
    );
    assert!(refusal(pickled(nested_dicts)).contains("nested more than 32 deep"));
}

#[test]
fn more_work_than_any_checkpoint() {
    assert!(refusal(pickled(vec![b'N'; 5_000_000])).contains("more than 4000000 instructions"));
    // A list of a million items, copied again and again.
    let copies = [
        b"cbuiltins\nset\np0\n0(".to_vec(),
        vec![b'N'; 1_000_000],
        b"lp1\n0".to_vec(),
        b"g0\n(g1\ntR0".repeat(100),
        b"N.".to_vec(),
    ];
    assert!(refusal(pickled(copies.concat())).contains("more than 4000000 instructions"));
    // Long names, shared by many dicts inside each other.
    let name = "n".repeat(1 << 20);
    let inner = (0..90).map(|index| format!("V{index}\nNs")).collect::<String>();
    let names = format!("V{name}\np0\n0}}p1\n(g0\n}}Vx\n}}{inner}su.");
    assert!(open_bytes(pickled(names)).is_err());
}
