// The layers of a block with all their parameters in one tensor: skipsearch::packed_layers, which has one gradient for
// them, and skipsearch::network_gradients, which trains a whole network of one block without autograd.

#include <ATen/ATen.h>
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
    using Signature = std::tuple<Tensors, Tensor, Tensor, Tensor, Tensor>(TensorList, const Tensor&, IntArrayRef, IntArrayRef,
                                                                  TensorList, TensorList, TensorList, TensorList,
                                                                  TensorList, double, bool, bool);
    return c10::Dispatcher::singleton().findSchemaOrThrow("skipsearch::layers", "").typed<Signature>();
}

auto find_backward() {
    using Signature = std::tuple<Tensors, Tensors, Tensors, Tensors>(
        TensorList, IntArrayRef, IntArrayRef, int64_t, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
        const Tensor&, IntArrayRef, TensorList, TensorList, TensorList, double, bool);
    return c10::Dispatcher::singleton().findSchemaOrThrow("skipsearch::layers_backward", "").typed<Signature>();
}

// Views of one tensor: scales, shifts and weights of each layer, in this order. Autograd does not look into them.
struct Parts {
    Tensors all;
    TensorList scales() const { return TensorList(all).slice(0, all.size() / 3); }
    TensorList shifts() const { return TensorList(all).slice(all.size() / 3, all.size() / 3); }
    TensorList weights() const { return TensorList(all).slice(2 * (all.size() / 3)); }
};

// Write the gradients of parts, one after the other, as that of the tensor whose views they are.
void join(std::initializer_list<TensorList> gradients, const Tensor& joined) {
    char* to = static_cast<char*>(joined.mutable_data_ptr());
    for (const TensorList list : gradients)
        for (const Tensor& gradient : list) {
            std::memcpy(to, gradient.const_data_ptr(), gradient.nbytes());
            to += gradient.nbytes();
        }
}

// The kernels trust the places: parts that lie elsewhere must not reach them.
void check_packed(const Tensor& packed, TensorList parts) {
    int64_t n_values = 0;
    for (const Tensor& part : parts) {
        TORCH_CHECK(part.is_contiguous() && part.is_alias_of(packed) && part.storage_offset() == n_values,
                    "packed layers: parts lie in the packed tensor one after the other");
        n_values += part.numel();
    }
    TORCH_CHECK(packed.is_contiguous() && packed.storage_offset() == 0 && packed.numel() == n_values,
                "packed layers: ", packed.sizes(), " is not packed from parts of ", n_values, " numbers");
}

class PackedLayersFunction : public torch::autograd::Function<PackedLayersFunction> {
   public:
    static variable_list forward(AutogradContext* context, TensorList inputs, const Tensor& packed,
                                 const Tensor& sources, IntArrayRef degrees, IntArrayRef outputs, const Parts& parts,
                                 double epsilon, bool keep, bool in_bfloat16) {
        static const auto layers = find_forward();
        at::AutoDispatchBelowADInplaceOrView below;
        auto [written, mean, variance, maps, inner] = layers.call(inputs, sources, degrees, outputs, parts.scales(),
                                                           parts.shifts(), parts.weights(), {}, {}, epsilon, keep,
                                                           in_bfloat16);
        context->save_for_backward({packed, sources, maps, inner, mean, variance});
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
            layers_backward.call(gradients, outputs, widths, n_images, maps, kept[3], kept[4], kept[5], kept[1], degrees,
                                 parts.scales(), parts.shifts(), parts.weights(), data["epsilon"].toDouble(),
                                 data["in_bfloat16"].toBool());
        result.push_back(at::empty_like(packed));
        join({by_scale, by_shift, by_weights}, result.back());
        result.resize(result.size() + 7);  // sources, degrees, outputs, parts, epsilon, keep, in_bfloat16
        return result;
    }
};

std::tuple<Tensors, Tensor, Tensor> packed_layers(TensorList inputs, const Tensor& packed, const Tensor& sources,
                                                  IntArrayRef degrees, IntArrayRef outputs, TensorList parts,
                                                  double epsilon, bool keep, bool in_bfloat16) {
    check_packed(packed, parts);
    variable_list all =
        PackedLayersFunction::apply(inputs, packed, sources, degrees, outputs, Parts{parts.vec()}, epsilon, keep,
                                    in_bfloat16);
    const Tensor variance = all.back(), mean = all.end()[-2];
    all.resize(outputs.size());
    return {all, mean, variance};
}

// Mean cross-entropy of a batch and its gradients, by the operations that autograd would call: the same bits.
// read: nodes that the classifier reads, ascending. head: BN's scale, shift, running mean and running variance, of which
// the last two are updated. classifier: weight and bias. by_packed: the gradient of packed, which is overwritten.
// Returns the loss, (1,); mean and variance as skipsearch::layers; gradients of stem, scale, shift, weight and bias.
std::tuple<Tensor, Tensor, Tensor, Tensors> network_gradients(
    const Tensor& images, const Tensor& labels, const Tensor& stem, const Tensor& packed, const Tensor& sources,
    IntArrayRef degrees, IntArrayRef read, TensorList parts_, TensorList head, double momentum, TensorList classifier,
    double epsilon, bool keep, Tensor by_packed) {
    static const auto layers = find_forward();
    static const auto layers_backward = find_backward();
    check_packed(packed, parts_);
    TORCH_CHECK(by_packed.is_contiguous() && by_packed.sizes() == packed.sizes() && head.size() == 4 &&
                    classifier.size() == 2,
                "network gradients: a tensor for the packed gradient, four of the head and two of the classifier");
    at::AutoDispatchBelowADInplaceOrView below;
    const Parts parts{parts_.vec()};
    const std::vector<int64_t> one{1, 1};
    const Tensor begin = at::conv2d(images, stem, {}, one, one);
    const bool reads_begin = !read.empty() && read[0] == 0;
    const IntArrayRef outputs = read.slice(reads_begin);
    auto [written, mean, variance, maps, inner] = layers.call({begin.unsqueeze(0)}, sources, degrees, outputs, parts.scales(),
                                                       parts.shifts(), parts.weights(), {}, {}, epsilon, keep, false);
    Tensors nodes;
    if (reads_begin) nodes.push_back(begin);
    for (const Tensor& node : written) nodes.push_back(node.squeeze(0));
    const Tensor merged = at::cat(nodes, 1);
    auto [activated, centre, inverse] =
        at::native_batch_norm(merged, head[0], head[1], head[2], head[3], true, momentum, epsilon);
    activated.relu_();
    const Tensor pooled = at::mean(activated, {2, 3});
    const Tensor logs = at::log_softmax(at::linear(pooled, classifier[0], classifier[1]), 1);
    auto [losses, weight] = at::nll_loss_forward(logs, labels, {}, at::Reduction::None, -100);

    const Tensor by_loss = at::ones_like(losses) / losses.numel();
    const Tensor by_logs = at::nll_loss_backward(by_loss, logs, labels, {}, at::Reduction::None, -100, weight);
    const Tensor by_logits = at::_log_softmax_backward_data(by_logs, logs, 1, logs.scalar_type());
    const Tensor by_pooled = at::mm(by_logits, classifier[0]);
    const Tensor by_activated = by_pooled.unsqueeze(2).unsqueeze(3).expand_as(activated) / (activated[0][0].numel());
    auto [by_merged, by_scale, by_shift] = at::native_batch_norm_backward(
        at::threshold_backward(by_activated, activated, 0), merged, head[0], head[2], head[3], centre, inverse, true,
        epsilon, {true, true, true});
    Tensors by_node;
    for (int64_t channel = 0; const Tensor& node : nodes) {
        by_node.push_back(by_merged.narrow(1, channel, node.size(1)).unsqueeze(0));
        channel += node.size(1);
    }
    auto [by_input, by_scales, by_shifts, by_weights] = layers_backward.call(
        TensorList(by_node).slice(reads_begin), outputs, begin.size(1), images.size(0), maps, inner, mean, variance, sources,
        degrees, parts.scales(), parts.shifts(), parts.weights(), epsilon, false);
    join({by_scales, by_shifts, by_weights}, by_packed);
    Tensor by_begin = by_input[0].squeeze(0);
    if (reads_begin) by_begin = by_begin + by_node[0].squeeze(0);
    const auto by_stem = std::get<1>(at::convolution_backward(by_begin, images, stem, c10::nullopt, one, one, one, false,
                                                              {0, 0}, 1, {false, true, false}));
    return {losses.unsqueeze(0).mean(1), mean, variance,
            {by_stem, by_scale, by_shift, at::mm(by_logits.t(), pooled), by_logits.sum(0)}};
}

TORCH_LIBRARY_FRAGMENT(skipsearch, library) {
    library.def(
        "packed_layers(Tensor[] inputs, Tensor packed, Tensor sources, int[] degrees, int[] outputs, Tensor[] parts, "
        "float epsilon, bool keep, bool in_bfloat16=False) -> (Tensor[] nodes, Tensor mean, Tensor variance)");
    library.def(
        "network_gradients(Tensor images, Tensor labels, Tensor stem, Tensor packed, Tensor sources, int[] degrees, "
        "int[] read, Tensor[] parts, Tensor[] head, float momentum, Tensor[] classifier, float epsilon, "
        "bool keep, Tensor(a!) by_packed) -> (Tensor loss, Tensor mean, Tensor variance, Tensor[] gradients)");
}

TORCH_LIBRARY_IMPL(skipsearch, CompositeImplicitAutograd, library) {
    library.impl("packed_layers", packed_layers);
    library.impl("network_gradients", network_gradients);
}

}  // namespace
}  // namespace skipsearch
