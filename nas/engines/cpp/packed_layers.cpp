// skipsearch::packed_layers: the layers of a block with all their parameters in one tensor, and so with one gradient.

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cstring>

namespace skipsearch {
namespace {

using at::IntArrayRef;
using at::Tensor;
using at::TensorList;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Tensors = std::vector<Tensor>;

// The operators of layer_operation.cpp.
auto find_forward() {
    using Signature = std::tuple<Tensors, Tensor, Tensor, Tensor>(TensorList, const Tensor&, IntArrayRef, IntArrayRef,
                                                                  TensorList, TensorList, TensorList, TensorList,
                                                                  TensorList, double, bool);
    return c10::Dispatcher::singleton().findSchemaOrThrow("skipsearch::layers", "").typed<Signature>();
}

auto find_backward() {
    using Signature = std::tuple<Tensors, Tensors, Tensors, Tensors>(
        TensorList, IntArrayRef, IntArrayRef, int64_t, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
        IntArrayRef, TensorList, TensorList, TensorList, double, bool);
    return c10::Dispatcher::singleton().findSchemaOrThrow("skipsearch::layers_backward", "").typed<Signature>();
}

// Views of one tensor: scales, shifts and weights of each layer, in this order. Autograd does not look into them.
struct Parts {
    Tensors all;
    TensorList scales() const { return TensorList(all).slice(0, all.size() / 3); }
    TensorList shifts() const { return TensorList(all).slice(all.size() / 3, all.size() / 3); }
    TensorList weights() const { return TensorList(all).slice(2 * (all.size() / 3)); }
};

// Return the gradients of parts, one after the other, as that of the tensor whose views they are.
Tensor join(std::initializer_list<TensorList> gradients, const Tensor& packed) {
    Tensor joined = at::empty_like(packed);
    char* to = static_cast<char*>(joined.mutable_data_ptr());
    for (const TensorList list : gradients)
        for (const Tensor& gradient : list) {
            std::memcpy(to, gradient.const_data_ptr(), gradient.nbytes());
            to += gradient.nbytes();
        }
    return joined;
}

class PackedLayersFunction : public torch::autograd::Function<PackedLayersFunction> {
   public:
    static variable_list forward(AutogradContext* context, TensorList inputs, const Tensor& packed,
                                 const Tensor& sources, IntArrayRef degrees, IntArrayRef outputs, const Parts& parts,
                                 double epsilon, bool in_bfloat16) {
        static const auto layers = find_forward();
        at::AutoDispatchBelowADInplaceOrView below;
        auto [written, mean, variance, maps] = layers.call(inputs, sources, degrees, outputs, parts.scales(),
                                                           parts.shifts(), parts.weights(), {}, {}, epsilon,
                                                           in_bfloat16);
        context->save_for_backward({packed, sources, maps, mean, variance});
        context->mark_non_differentiable({mean, variance});
        context->set_materialize_grads(false);
        std::vector<int64_t> widths;
        for (const Tensor& input : inputs) widths.push_back(input.size(2));
        auto& data = context->saved_data;
        data["widths"] = widths;
        data["degrees"] = degrees.vec();
        data["outputs"] = outputs.vec();
        data["parts"] = parts.all;
        data["n_images"] = inputs[0].size(1);
        data["epsilon"] = epsilon;
        data["in_bfloat16"] = in_bfloat16;
        written.insert(written.end(), {mean, variance});
        return written;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        static const auto layers_backward = find_backward();
        const variable_list kept = context->get_saved_variables();
        auto& data = context->saved_data;
        const auto degrees = data["degrees"].toIntVector(), outputs = data["outputs"].toIntVector();
        const auto widths = data["widths"].toIntVector();
        const Parts parts{data["parts"].toTensorVector()};
        const Tensor &packed = kept[0], &maps = kept[2];
        const int64_t n_images = data["n_images"].toInt(), growth = parts.all.back().size(-4);
        gradients.resize(outputs.size());  // mean and variance have none
        for (size_t i = 0; i < outputs.size(); ++i) {
            const int64_t width = outputs[i] < (int64_t)widths.size() ? widths[outputs[i]] : growth;
            if (!gradients[i].defined())
                gradients[i] = at::zeros({maps.size(0), n_images, width, maps.size(3), maps.size(4)}, maps.options());
        }
        at::AutoDispatchBelowADInplaceOrView below;
        auto [result, by_scale, by_shift, by_weights] =
            layers_backward.call(gradients, outputs, widths, n_images, maps, kept[3], kept[4], kept[1], degrees,
                                 parts.scales(), parts.shifts(), parts.weights(), data["epsilon"].toDouble(),
                                 data["in_bfloat16"].toBool());
        result.push_back(join({by_scale, by_shift, by_weights}, packed));
        result.resize(result.size() + 6);  // sources, degrees, outputs, parts, epsilon, in_bfloat16
        return result;
    }
};

std::tuple<Tensors, Tensor, Tensor> packed_layers(TensorList inputs, const Tensor& packed, const Tensor& sources,
                                                  IntArrayRef degrees, IntArrayRef outputs, TensorList parts,
                                                  double epsilon, bool in_bfloat16) {
    int64_t n_values = 0;
    for (const Tensor& part : parts) {
        TORCH_CHECK(part.is_contiguous() && part.is_alias_of(packed) && part.storage_offset() == n_values,
                    "packed layers: parts lie in the packed tensor one after the other");
        n_values += part.numel();
    }
    TORCH_CHECK(packed.is_contiguous() && packed.storage_offset() == 0 && packed.numel() == n_values,
                "packed layers: ", packed.sizes(), " is not packed from parts of ", n_values, " numbers");
    variable_list all =
        PackedLayersFunction::apply(inputs, packed, sources, degrees, outputs, Parts{parts.vec()}, epsilon, in_bfloat16);
    const Tensor variance = all.back(), mean = all.end()[-2];
    all.resize(outputs.size());
    return {all, mean, variance};
}

TORCH_LIBRARY_FRAGMENT(skipsearch, library) {
    library.def(
        "packed_layers(Tensor[] inputs, Tensor packed, Tensor sources, int[] degrees, int[] outputs, Tensor[] parts, "
        "float epsilon, bool in_bfloat16=False) -> (Tensor[] nodes, Tensor mean, Tensor variance)");
}

TORCH_LIBRARY_IMPL(skipsearch, CompositeImplicitAutograd, library) { library.impl("packed_layers", packed_layers); }

}  // namespace
}  // namespace skipsearch
