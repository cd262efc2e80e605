// The layers of a block as one torch operator for the CPU: skipsearch::layers, with its gradient.

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "layer_passes.h"

namespace skipsearch {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

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

using Outputs = std::tuple<std::vector<Tensor>, Tensor, Tensor, Tensor, Tensor>;

// The forward pass of one member, with its own maps, mean and variance.
// inner_of: function of a layer that gives the room for its bottleneck's maps.
template <typename Form, typename T, typename F>
void run_member(const Block& block, const std::vector<Tensor>& inputs, const Parameters& parameters,
                const std::vector<Tensor>& running_means, const std::vector<Tensor>& running_variances,
                double epsilon, int64_t member, Vector<T>* maps, F inner_of, T* mean, T* variance) {
    const bool is_training = running_means.empty();
    Scratch<Form> scratch;
    auto measure = [&](int64_t node) {
        for (int64_t channel = block.first[node]; is_training && channel < block.first[node + 1]; ++channel)
            measure_channel<T>(block, maps, channel, mean, variance);
    };
    // first: place of the first channel that could be read among all statistics.
    auto run = [&](int64_t number, int64_t first, const Block& from, const Vector<T>* read, const Block& to,
                   Vector<T>* written) {
        const auto layer = view_layer<T>(block, parameters, member, number, epsilon, [&](int64_t k, const auto& own) {
            if (is_training) return std::pair(mean[first + own.channels[k]], variance[first + own.channels[k]]);
            return std::pair(view<T>(running_means, number, member, own.n_read)[k],
                             view<T>(running_variances, number, member, own.n_read)[k]);
        });
        run_layer<Form>(layer, from, read, to, written, scratch);
    };
    for (int64_t node = 0; node < block.n_inputs(); ++node) {
        T* images = const_cast<T*>(view<T>(inputs, node, member, inputs[node].stride(0)));
        visit_images<T>(block, images, maps, node, [](const T& image, T& lane) { lane = image; });
        measure(node);
    }
    for (int64_t number = 0; number < block.n_layers; ++number) {
        if (block.wide) {
            const int64_t first = block.first_inner(number);
            Vector<T>* inner = inner_of(number);
            run(number, 0, block, maps, *block.inner, inner);
            for (int64_t channel = 0; is_training && channel < block.wide; ++channel)
                measure_channel<T>(*block.inner, inner, channel, mean + first, variance + first);
            run(block.n_layers + number, first, *block.inner, inner, block, maps);
        } else {
            run(number, 0, block, maps, block, maps);
        }
        measure(block.n_inputs() + number);
    }
}

Outputs layers_cpu(TensorList inputs_, const Tensor& sources, IntArrayRef degrees, IntArrayRef outputs,
                   TensorList scales, TensorList shifts, TensorList weights, TensorList running_means_,
                   TensorList running_variances_, double epsilon, bool keep, bool in_bfloat16) {
    const Block block = read_block(inputs_, sources, degrees, weights);
    check_fit(block, outputs, {scales, shifts});
    if (!running_means_.empty() || !running_variances_.empty())
        check_fit(block, outputs, {running_means_, running_variances_});
    const Parameters parameters{make_contiguous(scales), make_contiguous(shifts), make_contiguous(weights)};
    const auto inputs = make_contiguous(inputs_), running_means = make_contiguous(running_means_),
               running_variances = make_contiguous(running_variances_);
    const auto options = inputs[0].options();
    Tensor mean = at::zeros({block.n_members, block.n_measured()}, options), variance = at::zeros_like(mean), maps, inner;
    std::vector<Tensor> nodes;
    for (int64_t node : outputs) nodes.push_back(at::empty(block.shape(node), options));
    AT_DISPATCH_FLOATING_TYPES(inputs[0].scalar_type(), "skipsearch::layers", [&] {
        using T = scalar_t;
        // Lanes beyond the batch are zero, so that nothing computed from them is infinite or NaN.
        maps = new_maps<T>(block, block.n_members, options, block.n_images % LANES<T> != 0);
        inner = new_inner<T>(block, keep ? block.n_members * block.n_layers : 1, options);
        for (int64_t member = 0; member < block.n_members; ++member) {
            Vector<T>* own = view_maps<T>(block, maps.mutable_data_ptr<T>(), member);
            auto inner_of = [&](int64_t number) {
                const int64_t place = keep ? member * block.n_layers + number : 0;
                return view_maps<T>(*block.inner, inner.mutable_data_ptr<T>(), place);
            };
            choose_form<T>(in_bfloat16, [&]<typename Form>() {
                run_member<Form>(block, inputs, parameters, running_means, running_variances, epsilon, member, own,
                                 inner_of, mean.mutable_data_ptr<T>() + member * block.n_measured(),
                                 variance.mutable_data_ptr<T>() + member * block.n_measured());
            });
            for (size_t i = 0; i < outputs.size(); ++i)
                visit_images<T>(block, nodes[i].mutable_data_ptr<T>() + member * nodes[i].stride(0), own, outputs[i],
                                [](T& image, const T& lane) { image = lane; });
        }
    });
    return {nodes, mean, variance, maps, keep ? inner : at::empty({0}, options)};
}

using Gradients = std::tuple<std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>>;

// The backward pass of one member's layer, whose node's gradient is finished.
// inner: the maps of its bottleneck, or room for them and is_kept is false. inner_gradients: room.
// own: function of a convolution that gives the gradients of its parameters.
template <typename Form, typename T, typename F>
void return_node(MapGradients<T>& known, const Parameters& parameters, int64_t member, int64_t number, double epsilon,
                 bool is_kept, Vector<T>* inner, Vector<T>* inner_gradients, F own) {
    const Block& block = known.block;
    auto view_by = [&](int64_t convolution, const T* mean, const T* variance) {
        return view_layer<T>(block, parameters, member, convolution, epsilon, [&](int64_t k, const Layer<T>& layer) {
            return std::pair(mean[layer.channels[k]], variance[layer.channels[k]]);
        });
    };
    auto go_back = [&](Layer<T>& layer, int64_t convolution, MapGradients<T>& reads, const MapGradients<T>& writes) {
        const T* scale = view<T>(parameters.scales, convolution, member, layer.n_read);
        return_layer<Form>(layer, reads, writes, scale, epsilon, own(convolution));
    };
    Layer<T> layer = view_by(number, known.mean, known.variance);
    if (!block.wide) return go_back(layer, number, known, known);
    const int64_t first = block.first_inner(number), second = block.n_layers + number;
    Scratch<Form> scratch;
    if (!is_kept) run_layer<Form>(layer, block, known.maps, *block.inner, inner, scratch);
    MapGradients<T> between(*block.inner, inner, inner_gradients, known.mean + first, known.variance + first);
    Layer<T> last = view_by(second, between.mean, between.variance);
    go_back(last, second, between, known);
    go_back(layer, number, known, between);
}

Gradients layers_backward_cpu(TensorList gradients_, IntArrayRef outputs, IntArrayRef widths, int64_t n_images,
                              const Tensor& maps, const Tensor& inner_maps, const Tensor& mean,
                              const Tensor& variance, const Tensor& sources, IntArrayRef degrees, TensorList scales,
                              TensorList shifts, TensorList weights, double epsilon, bool in_bfloat16) {
    const Block block(maps.size(0), n_images, {maps.size(3), maps.size(4)}, widths.vec(), sources, degrees, weights);
    check_fit(block, outputs, {scales, shifts});
    const Parameters parameters{make_contiguous(scales), make_contiguous(shifts), make_contiguous(weights)};
    const auto gradients = make_contiguous(gradients_);
    const auto options = maps.options();
    std::vector<Tensor> by_input, by_scale, by_shift, by_weights;
    for (int64_t node = 0; node < block.n_inputs(); ++node) by_input.push_back(at::empty(block.shape(node), options));
    for (int64_t number = 0; number < block.n_convolutions(); ++number) {
        by_scale.push_back(at::empty(scales[number].sizes(), options));
        by_shift.push_back(at::empty(shifts[number].sizes(), options));
        by_weights.push_back(at::empty(weights[number].sizes(), options));
    }
    AT_DISPATCH_FLOATING_TYPES(maps.scalar_type(), "skipsearch::layers_backward", [&] {
        using T = scalar_t;
        const bool is_kept = inner_maps.numel() > 0;
        Tensor by_maps = new_maps<T>(block, block.n_members, options, false), by_inner = new_inner<T>(block, 1, options);
        const Tensor inner = is_kept ? inner_maps : new_inner<T>(block, 1, options);
        TORCH_CHECK(maps.sizes() == by_maps.sizes(), "layers: maps ", maps.sizes(), " are of another block");
        TORCH_CHECK(!is_kept || (block.wide && inner.numel() == block.n_members * block.n_layers * by_inner.numel()),
                    "layers: maps of bottlenecks ", inner.sizes(), " are of another block");
        for (int64_t member = 0; member < block.n_members; ++member) {
            auto own = [&](std::vector<Tensor>& tensors, int64_t number) {
                return tensors[number].mutable_data_ptr<T>() + member * (tensors[number].numel() / block.n_members);
            };
            MapGradients<T> known(block, view_maps<T>(block, maps.const_data_ptr<T>(), member),
                                  view_maps<T>(block, by_maps.mutable_data_ptr<T>(), member),
                                  mean.const_data_ptr<T>() + member * block.n_measured(),
                                  variance.const_data_ptr<T>() + member * block.n_measured());
            for (size_t i = 0; i < outputs.size(); ++i) {
                known.begin_node(outputs[i]);
                T* images = const_cast<T*>(view<T>(gradients, i, member, gradients[i].stride(0)));
                visit_images<T>(block, images, known.gradients, outputs[i],
                                [](const T& image, T& lane) { lane += image; });
            }
            for (int64_t number = block.n_layers - 1; number >= 0; --number) {
                known.finish_node(block.n_inputs() + number);
                const int64_t place = is_kept ? member * block.n_layers + number : 0;
                auto own_gradients = [&](int64_t convolution) {
                    return ParameterGradients<T>{own(by_scale, convolution), own(by_shift, convolution),
                                                 own(by_weights, convolution)};
                };
                choose_form<T>(in_bfloat16, [&]<typename Form>() {
                    return_node<Form>(known, parameters, member, number, epsilon, is_kept,
                                      block.wide ? view_maps<T>(*block.inner, inner.data_ptr<T>(), place) : nullptr,
                                      view_maps<T>(block, by_inner.mutable_data_ptr<T>(), 0), own_gradients);
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
                                 TensorList weights, double epsilon, bool keep, bool in_bfloat16) {
        static const auto layers = find_operator("skipsearch::layers", layers_cpu);
        at::AutoDispatchBelowADInplaceOrView below;
        auto [written, mean, variance, maps, inner] =
            layers.call(inputs, sources, degrees, outputs, scales, shifts, weights, {}, {}, epsilon, keep, in_bfloat16);
        variable_list kept{sources, maps, inner, mean, variance};
        for (TensorList list : {scales, shifts, weights}) kept.insert(kept.end(), list.begin(), list.end());
        context->save_for_backward(kept);
        context->mark_non_differentiable({mean, variance, maps, inner});
        context->set_materialize_grads(false);  // zeros as large as all maps
        std::vector<int64_t> widths;
        for (const Tensor& input : inputs) widths.push_back(input.size(2));
        context->saved_data["widths"] = widths;
        context->saved_data["degrees"] = degrees.vec();
        context->saved_data["outputs"] = outputs.vec();
        context->saved_data["n_images"] = inputs[0].size(1);
        context->saved_data["epsilon"] = epsilon;
        context->saved_data["in_bfloat16"] = in_bfloat16;
        written.insert(written.end(), {mean, variance, maps, inner});
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
        const size_t n = (all.size() - 5) / 3;  // convolutions
        auto [by_input, by_scale, by_shift, by_weights] = layers_backward.call(
            by_output, outputs, widths, n_images, maps, kept[2], kept[3], kept[4], kept[0], degrees, all.slice(5, n),
            all.slice(5 + n, n), all.slice(5 + 2 * n, n), data["epsilon"].toDouble(), data["in_bfloat16"].toBool());
        variable_list result = by_input;
        result.resize(by_input.size() + 3);  // sources, degrees, outputs
        for (const auto& list : {by_scale, by_shift, by_weights}) result.insert(result.end(), list.begin(), list.end());
        result.resize(result.size() + 3);  // epsilon, keep, in_bfloat16
        return result;
    }
};

Outputs layers_autograd(TensorList inputs, const Tensor& sources, IntArrayRef degrees, IntArrayRef outputs,
                        TensorList scales, TensorList shifts, TensorList weights, TensorList running_means,
                        TensorList running_variances, double epsilon, bool keep, bool in_bfloat16) {
    bool needs_gradient = false;
    for (TensorList list : {inputs, scales, shifts, weights})
        for (const Tensor& tensor : list) needs_gradient |= tensor.requires_grad();
    if (!needs_gradient || !at::GradMode::is_enabled()) {
        static const auto layers = find_operator("skipsearch::layers", layers_cpu);
        at::AutoDispatchBelowADInplaceOrView below;
        return layers.call(inputs, sources, degrees, outputs, scales, shifts, weights, running_means,
                           running_variances, epsilon, keep, in_bfloat16);
    }
    TORCH_CHECK(running_means.empty() && running_variances.empty(),
                "layers: there are gradients by the batch's statistics alone");
    variable_list all = LayersFunction::apply(inputs, sources, degrees, outputs, scales, shifts, weights, epsilon, keep,
                                              in_bfloat16);
    const size_t n = outputs.size();
    return {{all.begin(), all.begin() + n}, all[n], all[n + 1], all[n + 2], all[n + 3]};
}

TORCH_LIBRARY(skipsearch, library) {
    library.def(
        "layers(Tensor[] inputs, Tensor sources, int[] degrees, int[] outputs, Tensor[] scales, Tensor[] shifts, "
        "Tensor[] weights, Tensor[] running_means, Tensor[] running_variances, float epsilon, bool keep=False, "
        "bool in_bfloat16=False) -> (Tensor[] nodes, Tensor mean, Tensor variance, Tensor maps, Tensor inner_maps)");
    library.def(
        "layers_backward(Tensor[] gradients, int[] outputs, int[] widths, int n_images, Tensor maps, Tensor inner_maps, "
        "Tensor mean, Tensor variance, Tensor sources, int[] degrees, Tensor[] scales, Tensor[] shifts, Tensor[] weights, "
        "float epsilon, bool in_bfloat16=False) -> (Tensor[] by_input, Tensor[] by_scale, Tensor[] by_shift, "
        "Tensor[] by_weights)");
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
