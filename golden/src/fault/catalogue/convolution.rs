//! What goes wrong with the convolution.

use deberta_reference::Module;

use super::{List, other_activations};
use crate::fault::setting::activation_name;
use crate::fault::{Change, KernelOrder, Setting};

impl List<'_> {
    pub(super) fn convolution(&mut self) {
        let Some(config) = self.model.config.convolution else {
            self.absent("convolution", "the model has no convolution");
            return;
        };
        let place = vec![self.first(Module::Conv)];
        let none = vec![Change::Config(Setting::Convolution(None))];
        self.add("convolution", "no convolution after layer 0", place.clone(), none);
        for act in other_activations(config.act) {
            let (own, other) = (activation_name(config.act), activation_name(act));
            let description = format!("conv_act {other} for {own}");
            self.set("conv-act", description, Module::ConvLayerNorm, Setting::ConvAct(act));
        }
        let weight = self.model.weight(Module::Conv, 0);
        for (order, kind, how, possible) in [
            (KernelOrder::Reversed, "reversed-kernel", "the last tap first", config.kernel > 1),
            (KernelOrder::InOut, "transposed-kernel", "[in, out, k]", config.groups == 1),
            (KernelOrder::Keras, "transposed-kernel", "[k, in, out], read as [out, in, k]", true),
        ] {
            if possible {
                let changes = vec![Change::Kernel(weight.clone(), order)];
                self.add(kind, format!("{weight}: {how}"), place.clone(), changes);
            } else {
                self.absent(kind, format!("{weight}: {how} cannot be"));
            }
        }
        let zero = vec![Change::Fill(weight.clone(), 0.0)];
        self.add("zero-parameter", format!("{weight} all zero"), place, zero);
    }
}
