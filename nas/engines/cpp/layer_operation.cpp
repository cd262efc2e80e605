// The layers of a block as one torch operator for the CPU: skipsearch::layers, with its gradient.

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "layer_block.h"
#include "product_forms.h"

namespace skipsearch {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// A member's part of a layer's tensor, in which the cohort's members follow one another.
template <typename T>
const T* view(const std::vector<Tensor>& tensors, int64_t number, int64_t member, int64_t n_values) {
    return tensors[number].const_data_ptr<T>() + member * n_values;
}

// Contiguous parameters of each layer.
struct Parameters {
    std::vector<Tensor> scales, shifts, weights;
};

// Return one layer of a member for the kernels, with BN as factor and offset of each channel read.
// mean_and_variance: function of k, the place of a channel among those read.
template <typename T, typename F>
Layer<T> view_layer(const Block& block, const Parameters& parameters, int64_t member, int64_t number, double epsilon,
                    F mean_and_variance) {
    Layer<T> layer;
    layer.channels = block.read[member][number];
    layer.n_read = layer.channels.size();
    layer.n_written = block.growth;
    layer.first = block.first[block.n_inputs() + number];
    layer.places = block.places.data();
    layer.weights = view<T>(parameters.weights, number, member, layer.n_written * layer.n_read * TAPS * TAPS);
    const T* scale = view<T>(parameters.scales, number, member, layer.n_read);
    const T* shift = view<T>(parameters.shifts, number, member, layer.n_read);
    for (int64_t k = 0; k < layer.n_read; ++k) {
        const auto [mean, variance] = mean_and_variance(k, layer);
        layer.factor.push_back(scale[k] / std::sqrt(variance + T(epsilon)));
        layer.offset.push_back(shift[k] - mean * layer.factor[k]);
    }
    return layer;
}

std::vector<Tensor> make_contiguous(TensorList tensors) {
    std::vector<Tensor> result;
    for (const Tensor& tensor : tensors) result.push_back(tensor.contiguous());
    return result;
}

// Run f with the form in which numbers of type T are multiplied.
template <typename T, typename F>
void choose_form(bool in_bfloat16, F f) {
    if (!in_bfloat16) return f.template operator()<Exact<T>>();
#ifdef SKIPSEARCH_BFLOAT16
    if constexpr (std::is_same_v<T, float>) return f.template operator()<Pairs>();
#endif
    TORCH_CHECK(false, "layers: bfloat16 needs maps of float32, and a processor with AVX512_BF16");
}

using Outputs = std::tuple<std::vector<Tensor>, Tensor, Tensor, Tensor>;

// The forward pass of one member, with its own maps, mean and variance.
template <typename Form, typename T>
void run_member(const Block& block, const std::vector<Tensor>& inputs, const Parameters& parameters,
                const std::vector<Tensor>& running_means, const std::vector<Tensor>& running_variances,
                double epsilon, int64_t member, Vector<T>* maps, T* mean, T* variance) {
    const bool is_training = running_means.empty();
    Scratch<Form> scratch;
    auto measure = [&](int64_t node) {
        for (int64_t channel = block.first[node]; is_training && channel < block.first[node + 1]; ++channel)
            measure_channel<T>(block, maps, channel, mean, variance);
    };
    for (int64_t node = 0; node < block.n_inputs(); ++node) {
        T* images = const_cast<T*>(view<T>(inputs, node, member, inputs[node].stride(0)));
        visit_images<T>(block, images, maps, node, [](const T& image, T& lane) { lane = image; });
        measure(node);
    }
    for (int64_t number = 0; number < block.n_layers; ++number) {
        const Layer<T> layer =
            view_layer<T>(block, parameters, member, number, epsilon, [&](int64_t k, const Layer<T>& own) {
                if (is_training) return std::pair(mean[own.channels[k]], variance[own.channels[k]]);
                return std::pair(view<T>(running_means, number, member, own.n_read)[k],
                                 view<T>(running_variances, number, member, own.n_read)[k]);
            });
        const auto arranged = arrange_weights<Form>(layer.weights, layer.n_written, layer.n_read);
        for (int64_t group = 0; group < block.n_groups<T>(); ++group)
            forward<Form>(layer, arranged.data(), block.size, maps + group * block.group_vectors(), scratch);
        measure(block.n_inputs() + number);
    }
}

Outputs layers_cpu(TensorList inputs_, const Tensor& sources, IntArrayRef degrees, IntArrayRef outputs,
                   TensorList scales, TensorList shifts, TensorList weights, TensorList running_means_,
                   TensorList running_variances_, double epsilon, bool in_bfloat16) {
    const Block block = read_block(inputs_, sources, degrees, weights);
    check_fit(block, outputs, {scales, shifts});
    if (!running_means_.empty() || !running_variances_.empty())
        check_fit(block, outputs, {running_means_, running_variances_});
    const Parameters parameters{make_contiguous(scales), make_contiguous(shifts), make_contiguous(weights)};
    const auto inputs = make_contiguous(inputs_), running_means = make_contiguous(running_means_),
               running_variances = make_contiguous(running_variances_);
    const auto options = inputs[0].options();
    Tensor mean = at::zeros({block.n_members, block.n_channels()}, options), variance = at::zeros_like(mean), maps;
    std::vector<Tensor> nodes;
    for (int64_t node : outputs) nodes.push_back(at::empty(block.shape(node), options));
    AT_DISPATCH_FLOATING_TYPES(inputs[0].scalar_type(), "skipsearch::layers", [&] {
        using T = scalar_t;
        // Lanes beyond the batch are zero, so that nothing computed from them is infinite or NaN.
        maps = new_maps<T>(block, options, block.n_images % LANES<T> != 0);
        for (int64_t member = 0; member < block.n_members; ++member) {
            Vector<T>* own = view_maps<T>(block, maps.mutable_data_ptr<T>(), member);
            choose_form<T>(in_bfloat16, [&]<typename Form>() {
                run_member<Form>(block, inputs, parameters, running_means, running_variances, epsilon, member, own,
                                 mean.mutable_data_ptr<T>() + member * block.n_channels(),
                                 variance.mutable_data_ptr<T>() + member * block.n_channels());
            });
            for (size_t i = 0; i < outputs.size(); ++i)
                visit_images<T>(block, nodes[i].mutable_data_ptr<T>() + member * nodes[i].stride(0), own, outputs[i],
                                [](T& image, const T& lane) { image = lane; });
        }
    });
    return {nodes, mean, variance, maps};
}

using Gradients = std::tuple<std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>>;

// The gradients of one member's maps while they are computed.
template <typename T>
struct MapGradients {
    const Block& block;
    const Vector<T>* maps;
    Vector<T>* gradients;
    const T* mean;
    const T* variance;
    std::vector<double> by_mean, by_variance;  // gradients of each channel's statistics, from all its readers
    std::vector<char> is_begun;                // of each channel; until then its gradient is uninitialised

    MapGradients(const Block& block, const Vector<T>* maps, Vector<T>* gradients, const T* mean, const T* variance)
        : block(block), maps(maps), gradients(gradients), mean(mean), variance(variance),
          by_mean(block.n_channels()), by_variance(block.n_channels()), is_begun(block.n_channels(), false) {}

    void begin_node(int64_t node) {
        for (int64_t channel = block.first[node]; channel < block.first[node + 1]; ++channel) {
            if (is_begun[channel]) continue;
            visit_channel<T>(block, channel, [&](int64_t i, const Vector<T>&) { gradients[i] = Vector<T>{}; });
            is_begun[channel] = true;
        }
    }

    // Add the gradient through a node's own mean and variance, once all its readers are done.
    void finish_node(int64_t node) {
        begin_node(node);  // if nothing reads it
        for (int64_t channel = block.first[node]; channel < block.first[node + 1]; ++channel) {
            const T constant = by_mean[channel] / block.n_values(), centre = mean[channel];
            const T slope = 2 * by_variance[channel] / block.n_values();
            visit_channel<T>(block, channel, [&](int64_t i, const Vector<T>& mask) {
                gradients[i] += (constant + slope * (maps[i] - centre)) * mask;
            });
        }
    }

    // Begin the gradients of the channels that a layer reads; return which were not begun yet.
    std::vector<char> begin_channels(const std::vector<int64_t>& channels) {
        std::vector<char> is_fresh;
        for (int64_t channel : channels) {
            is_fresh.push_back(!is_begun[channel]);
            is_begun[channel] = true;
        }
        return is_fresh;
    }
};

// The backward pass of one member's layer, whose node's gradient is finished.
template <typename Form, typename T>
void return_layer(MapGradients<T>& known, const Parameters& parameters, int64_t member, int64_t number, double epsilon,
                  T* by_scale, T* by_shift, T* by_weights) {
    const Block& block = known.block;
    Layer<T> layer = view_layer<T>(block, parameters, member, number, epsilon, [&](int64_t k, const Layer<T>& own) {
        return std::pair(known.mean[own.channels[k]], known.variance[own.channels[k]]);
    });
    layer.is_fresh = known.begin_channels(layer.channels);
    const int64_t n_weights = layer.n_written * layer.n_read * TAPS * TAPS;
    const auto transposed = arrange_transposed<Form>(layer.weights, layer.n_written, layer.n_read);
    std::vector<Vector<T>> weight_sums(n_weights), activation_sums(2 * layer.n_read);
    Scratch<Form> scratch;
    for (int64_t group = 0; group < block.n_groups<T>(); ++group) {
        const int64_t begin = group * block.group_vectors();
        backward<Form>(layer, transposed.data(), block.size, known.maps + begin, known.gradients + begin, known.mean,
                       weight_sums.data(), activation_sums.data(), scratch);
    }
    gather_weight_gradient<Form>(weight_sums.data(), layer.n_written, layer.n_read, by_weights);
    const T* scale = view<T>(parameters.scales, number, member, layer.n_read);
    for (int64_t k = 0; k < layer.n_read; ++k) {
        const int64_t channel = layer.channels[k];
        const double inverse = 1 / std::sqrt(known.variance[channel] + T(epsilon));
        const double sum = add_lanes<T>(activation_sums[2 * k]), product = add_lanes<T>(activation_sums[2 * k + 1]);
        by_shift[k] = sum;
        by_scale[k] = product * inverse;
        known.by_mean[channel] -= scale[k] * inverse * sum;
        known.by_variance[channel] -= 0.5 * scale[k] * inverse * inverse * inverse * product;
    }
}

Gradients layers_backward_cpu(TensorList gradients_, IntArrayRef outputs, IntArrayRef widths, int64_t n_images,
                              const Tensor& maps, const Tensor& mean, const Tensor& variance, const Tensor& sources,
                              IntArrayRef degrees, TensorList scales, TensorList shifts, TensorList weights,
                              double epsilon, bool in_bfloat16) {
    const Block block(maps.size(0), n_images, {maps.size(3), maps.size(4)}, widths.vec(), sources, degrees, weights);
    check_fit(block, outputs, {scales, shifts});
    const Parameters parameters{make_contiguous(scales), make_contiguous(shifts), make_contiguous(weights)};
    const auto gradients = make_contiguous(gradients_);
    const auto options = maps.options();
    std::vector<Tensor> by_input, by_scale, by_shift, by_weights;
    for (int64_t node = 0; node < block.n_inputs(); ++node) by_input.push_back(at::empty(block.shape(node), options));
    for (int64_t number = 0; number < block.n_layers; ++number) {
        by_scale.push_back(at::empty(scales[number].sizes(), options));
        by_shift.push_back(at::empty(shifts[number].sizes(), options));
        by_weights.push_back(at::empty(weights[number].sizes(), options));
    }
    AT_DISPATCH_FLOATING_TYPES(maps.scalar_type(), "skipsearch::layers_backward", [&] {
        using T = scalar_t;
        Tensor by_maps = new_maps<T>(block, options, false);
        TORCH_CHECK(maps.sizes() == by_maps.sizes(), "layers: maps ", maps.sizes(), " are of another block");
        for (int64_t member = 0; member < block.n_members; ++member) {
            auto own = [&](std::vector<Tensor>& tensors, int64_t number) {
                return tensors[number].mutable_data_ptr<T>() + member * (tensors[number].numel() / block.n_members);
            };
            MapGradients<T> known(block, view_maps<T>(block, maps.const_data_ptr<T>(), member),
                                  view_maps<T>(block, by_maps.mutable_data_ptr<T>(), member),
                                  mean.const_data_ptr<T>() + member * block.n_channels(),
                                  variance.const_data_ptr<T>() + member * block.n_channels());
            for (size_t i = 0; i < outputs.size(); ++i) {
                known.begin_node(outputs[i]);
                T* images = const_cast<T*>(view<T>(gradients, i, member, gradients[i].stride(0)));
                visit_images<T>(block, images, known.gradients, outputs[i],
                                [](const T& image, T& lane) { lane += image; });
            }
            for (int64_t number = block.n_layers - 1; number >= 0; --number) {
                known.finish_node(block.n_inputs() + number);
                choose_form<T>(in_bfloat16, [&]<typename Form>() {
                    return_layer<Form>(known, parameters, member, number, epsilon, own(by_scale, number),
                                       own(by_shift, number), own(by_weights, number));
                });
            }
            for (int64_t node = 0; node < block.n_inputs(); ++node) {
                known.finish_node(node);
                visit_images<T>(block, own(by_input, node), known.gradients, node,
                                [](T& image, const T& lane) { image = lane; });
            }
        }
    });
    return {by_input, by_scale, by_shift, by_weights};
}

template <typename F>
auto find_operator(const char* name, F*) {
    return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<F>();
}

class LayersFunction : public torch::autograd::Function<LayersFunction> {
   public:
    static variable_list forward(AutogradContext* context, TensorList inputs, const Tensor& sources,
                                 IntArrayRef degrees, IntArrayRef outputs, TensorList scales, TensorList shifts,
                                 TensorList weights, double epsilon, bool in_bfloat16) {
        static const auto layers = find_operator("skipsearch::layers", layers_cpu);
        at::AutoDispatchBelowADInplaceOrView below;
        auto [written, mean, variance, maps] =
            layers.call(inputs, sources, degrees, outputs, scales, shifts, weights, {}, {}, epsilon,
                        in_bfloat16);
        variable_list kept{sources, maps, mean, variance};
        for (TensorList list : {scales, shifts, weights}) kept.insert(kept.end(), list.begin(), list.end());
        context->save_for_backward(kept);
        context->mark_non_differentiable({mean, variance, maps});
        context->set_materialize_grads(false);  // zeros as large as all maps
        std::vector<int64_t> widths;
        for (const Tensor& input : inputs) widths.push_back(input.size(2));
        context->saved_data["widths"] = widths;
        context->saved_data["degrees"] = degrees.vec();
        context->saved_data["outputs"] = outputs.vec();
        context->saved_data["n_images"] = inputs[0].size(1);
        context->saved_data["epsilon"] = epsilon;
        context->saved_data["in_bfloat16"] = in_bfloat16;
        written.insert(written.end(), {mean, variance, maps});
        return written;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        static const auto layers_backward = find_operator("skipsearch::layers_backward", layers_backward_cpu);
        const variable_list kept = context->get_saved_variables();
        auto& data = context->saved_data;
        const auto degrees = data["degrees"].toIntVector(), outputs = data["outputs"].toIntVector();
        const auto widths = data["widths"].toIntVector();
        const int64_t n_images = data["n_images"].toInt(), growth = kept.back().size(-4);
        const Tensor& maps = kept[1];
        variable_list by_output;
        for (size_t i = 0; i < outputs.size(); ++i) {
            const int64_t width = outputs[i] < (int64_t)widths.size() ? widths[outputs[i]] : growth;
            by_output.push_back(gradients[i].defined() ? gradients[i]
                                                       : at::zeros({maps.size(0), n_images, width, maps.size(3),
                                                                    maps.size(4)},
                                                                   maps.options()));
        }
        const TensorList all(kept);
        const size_t n = degrees.size();
        auto [by_input, by_scale, by_shift, by_weights] = layers_backward.call(
            by_output, outputs, widths, n_images, maps, kept[2], kept[3], kept[0], degrees, all.slice(4, n),
            all.slice(4 + n, n), all.slice(4 + 2 * n, n), data["epsilon"].toDouble(),
            data["in_bfloat16"].toBool());
        variable_list result = by_input;
        result.resize(by_input.size() + 3);  // sources, degrees, outputs
        for (const auto& list : {by_scale, by_shift, by_weights}) result.insert(result.end(), list.begin(), list.end());
        result.resize(result.size() + 2);  // epsilon, in_bfloat16
        return result;
    }
};

Outputs layers_autograd(TensorList inputs, const Tensor& sources, IntArrayRef degrees, IntArrayRef outputs,
                        TensorList scales, TensorList shifts, TensorList weights, TensorList running_means,
                        TensorList running_variances, double epsilon, bool in_bfloat16) {
    bool needs_gradient = false;
    for (TensorList list : {inputs, scales, shifts, weights})
        for (const Tensor& tensor : list) needs_gradient |= tensor.requires_grad();
    if (!needs_gradient || !at::GradMode::is_enabled()) {
        static const auto layers = find_operator("skipsearch::layers", layers_cpu);
        at::AutoDispatchBelowADInplaceOrView below;
        return layers.call(inputs, sources, degrees, outputs, scales, shifts, weights, running_means,
                           running_variances, epsilon, in_bfloat16);
    }
    TORCH_CHECK(running_means.empty() && running_variances.empty(),
                "layers: there are gradients by the batch's statistics alone");
    variable_list all = LayersFunction::apply(inputs, sources, degrees, outputs, scales, shifts, weights, epsilon, in_bfloat16);
    const size_t n = outputs.size();
    return {{all.begin(), all.begin() + n}, all[n], all[n + 1], all[n + 2]};
}

TORCH_LIBRARY(skipsearch, library) {
    library.def(
        "layers(Tensor[] inputs, Tensor sources, int[] degrees, int[] outputs, Tensor[] scales, Tensor[] shifts, "
        "Tensor[] weights, Tensor[] running_means, Tensor[] running_variances, float epsilon, bool in_bfloat16=False) -> "
        "(Tensor[] nodes, Tensor mean, Tensor variance, Tensor maps)");
    library.def(
        "layers_backward(Tensor[] gradients, int[] outputs, int[] widths, int n_images, Tensor maps, Tensor mean, "
        "Tensor variance, Tensor sources, int[] degrees, Tensor[] scales, Tensor[] shifts, Tensor[] weights, "
        "float epsilon, bool in_bfloat16=False) -> (Tensor[] by_input, Tensor[] by_scale, Tensor[] by_shift, Tensor[] by_weights)");
    library.def("vector_bytes() -> int", [] { return (int64_t)VECTOR_BYTES; });
    library.def("has_bfloat16() -> bool", [] { return HAS_BFLOAT16; });
}

TORCH_LIBRARY_IMPL(skipsearch, CPU, library) {
    library.impl("layers", layers_cpu);
    library.impl("layers_backward", layers_backward_cpu);
}

TORCH_LIBRARY_IMPL(skipsearch, Autograd, library) { library.impl("layers", layers_autograd); }

}  // namespace
}  // namespace skipsearch
