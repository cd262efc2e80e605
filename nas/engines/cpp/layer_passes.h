// One convolution of one member of a cohort over all groups of images, forward and backward.

#pragma once

#include "layer_block.h"
#include "product_forms.h"

namespace skipsearch {

// A member's part of a tensor of parameters, in which the cohort's members follow one another.
template <typename T>
const T* view(const std::vector<Tensor>& tensors, int64_t number, int64_t member, int64_t n_values) {
    return tensors[number].const_data_ptr<T>() + member * n_values;
}

// Contiguous parameters of each convolution.
struct Parameters {
    std::vector<Tensor> scales, shifts, weights;
};

// Return one convolution of a member for the kernels, with BN as factor and offset of each channel read.
// mean_and_variance: function of k, the place of a channel among those read.
template <typename T, typename F>
Layer<T> view_layer(const Block& block, const Parameters& parameters, int64_t member, int64_t number, double epsilon,
                    F mean_and_variance) {
    const int64_t layer_number = number % block.n_layers;
    Layer<T> layer;
    layer.n_read = block.n_read(number);
    layer.n_written = block.n_written(number);
    layer.n_taps = block.has_one_tap(number) ? 1 : TAPS * TAPS;
    if (number < block.n_layers) {
        layer.channels = block.read[member][number];
    } else {
        for (int64_t channel = 0; channel < block.wide; ++channel) layer.channels.push_back(channel);
    }
    layer.places = (number < block.n_layers ? block : *block.inner).places.data();
    layer.written = layer.n_taps == 1 ? block.inner->places.data()
                                      : block.places.data() + block.first[block.n_inputs() + layer_number];
    layer.weights = view<T>(parameters.weights, number, member, layer.n_written * layer.n_read * layer.n_taps);
    const T* scale = view<T>(parameters.scales, number, member, layer.n_read);
    const T* shift = view<T>(parameters.shifts, number, member, layer.n_read);
    for (int64_t k = 0; k < layer.n_read; ++k) {
        const auto [mean, variance] = mean_and_variance(k, layer);
        layer.factor.push_back(scale[k] / std::sqrt(variance + T(epsilon)));
        layer.offset.push_back(shift[k] - mean * layer.factor[k]);
    }
    return layer;
}

// Write what a convolution gives; a 1x1 convolution is always computed exactly. from, to: the blocks whose maps it reads
// and writes.
template <typename Form, typename T>
void run_layer(const Layer<T>& layer, const Block& from, const Vector<T>* maps, const Block& to, Vector<T>* written,
               Scratch<Form>& scratch) {
    auto run = [&]<typename Own>(auto kernel, Scratch<Own>& room) {
        const auto arranged = arrange_weights<Own>(layer.weights, layer.n_written, layer.n_read, layer.n_taps);
        for (int64_t group = 0; group < from.n_groups<T>(); ++group)
            kernel(layer, arranged.data(), from.size, maps + group * from.group_vectors(),
                   written + group * to.group_vectors(), room);
    };
    if (layer.n_taps > 1) return run.template operator()<Form>(forward<Form>, scratch);
    Scratch<Exact<T>> own;
    run.template operator()<Exact<T>>(forward_pointwise<T>, own);
}

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

    // The gradient through a channel's own mean and variance, once all its readers are done.
    Correction<T> correct(int64_t channel) const {
        return {T(by_mean[channel] / block.n_values()), T(2 * by_variance[channel] / block.n_values()), mean[channel]};
    }

    void finish_node(int64_t node) {
        begin_node(node);  // if nothing reads it
        for (int64_t channel = block.first[node]; channel < block.first[node + 1]; ++channel) {
            const auto [constant, slope, centre] = correct(channel);
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

// Where the gradients of a convolution's parameters are written.
template <typename T>
struct ParameterGradients {
    T *by_scale, *by_shift, *by_weights;
};

// The backward pass of a convolution, whose written maps have all their readers' gradients; those of a node are finished.
// reads, writes: of the maps that it reads and writes, which may be the same.
template <typename Form, typename T>
void return_layer(Layer<T>& layer, MapGradients<T>& reads, const MapGradients<T>& writes, const T* scale,
                  double epsilon, const ParameterGradients<T>& own) {
    layer.is_fresh = reads.begin_channels(layer.channels);
    std::vector<Vector<T>> weight_sums(layer.n_written * layer.n_read * layer.n_taps), activation_sums(2 * layer.n_read);
    const int64_t n_groups = reads.block.template n_groups<T>();
    // kernel: function of the weights, first vectors of a group in the maps read and written, group and scratch.
    auto run = [&]<typename Own>(auto kernel, auto gather) {
        const auto transposed = arrange_transposed<Own>(layer.weights, layer.n_written, layer.n_read, layer.n_taps);
        Scratch<Own> scratch;
        for (int64_t group = 0; group < n_groups; ++group)
            kernel(transposed.data(), group * reads.block.group_vectors(), group * writes.block.group_vectors(), group,
                   scratch);
        gather(weight_sums.data(), layer.n_written, layer.n_read, own.by_weights);
    };
    const Size& size = reads.block.size;
    if (layer.n_taps == 1) {
        std::vector<Correction<T>> corrections;
        for (int64_t k = 0; k < layer.n_written; ++k) corrections.push_back(writes.correct(k));
        run.template operator()<Exact<T>>(
            [&](const T* weights, int64_t begin, int64_t written, int64_t group, auto& scratch) {
                const Vector<T> mask = group < n_groups - 1 ? Vector<T>{} + T(1) : mask_last<T>(reads.block);
                backward_pointwise<T>(layer, weights, size, reads.maps + begin, reads.gradients + begin,
                                      writes.gradients + written, writes.maps + written, corrections, mask, reads.mean,
                                      weight_sums.data(), activation_sums.data(), scratch);
            },
            gather_pointwise_gradient<T>);
    } else {
        run.template operator()<Form>(
            [&](const auto* weights, int64_t begin, int64_t written, int64_t, auto& scratch) {
                backward<Form>(layer, weights, size, reads.maps + begin, reads.gradients + begin,
                               writes.gradients + written, reads.mean, weight_sums.data(), activation_sums.data(),
                               scratch);
            },
            gather_weight_gradient<Form, T>);
    }
    for (int64_t k = 0; k < layer.n_read; ++k) {
        const int64_t channel = layer.channels[k];
        const double inverse = 1 / std::sqrt(reads.variance[channel] + T(epsilon));
        const double sum = add_lanes<T>(activation_sums[2 * k]), product = add_lanes<T>(activation_sums[2 * k + 1]);
        own.by_shift[k] = sum;
        own.by_scale[k] = product * inverse;
        reads.by_mean[channel] -= scale[k] * inverse * sum;
        reads.by_variance[channel] -= 0.5 * scale[k] * inverse * inverse * inverse * product;
    }
}

}  // namespace skipsearch
