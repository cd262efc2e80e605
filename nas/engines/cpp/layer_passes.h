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

// Room for the bands of the kernels.
template <typename Form>
struct Room {
    Scratch<Exact<typename Form::Number>> pixels;  // of a 1x1 convolution
    Scratch<Form> bands;                           // of a 3x3 convolution
};

// Write what a convolution gives; one of a single tap is exact. from, to: the blocks whose maps it reads and writes.
template <typename Form, typename T>
void run_layer(const Layer<T>& layer, const Block& from, const Vector<T>* maps, const Block& to, Vector<T>* written,
               Room<Form>& room) {
    auto run = [&]<typename Own>(auto pass, Scratch<Own>& scratch) {
        const auto arranged = arrange_weights<Own>(layer.weights, layer.n_written, layer.n_read, layer.n_taps);
        for (int64_t group = 0; group < from.n_groups<T>(); ++group)
            pass(layer, arranged.data(), from.size, maps + group * from.group_vectors(),
                 written + group * to.group_vectors(), scratch);
    };
    if (layer.n_taps == 1)
        run.template operator()<Exact<T>>(forward_pointwise<T>, room.pixels);
    else
        run.template operator()<Form>(forward<Form>, room.bands);
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

// Where the gradients of a convolution's parameters are written.
template <typename T>
struct ParameterGradients {
    T *by_scale, *by_shift, *by_weights;
};

// The backward pass of a convolution whose written maps' gradients are finished; one of a single tap is exact.
// reads, writes: of the maps that it reads and writes, which may be the same.
template <typename Form, typename T>
void return_layer(Layer<T>& layer, MapGradients<T>& reads, const MapGradients<T>& writes, const T* scale,
                  double epsilon, const ParameterGradients<T>& own) {
    layer.is_fresh = reads.begin_channels(layer.channels);
    const int64_t n_weights = layer.n_written * layer.n_read * layer.n_taps;
    std::vector<Vector<T>> weight_sums(n_weights), activation_sums(2 * layer.n_read);
    auto run = [&]<typename Own>(auto pass, auto gather) {
        const auto transposed = arrange_transposed<Own>(layer.weights, layer.n_written, layer.n_read, layer.n_taps);
        Scratch<Own> scratch;
        for (int64_t group = 0; group < reads.block.template n_groups<T>(); ++group) {
            const int64_t begin = group * reads.block.group_vectors();
            pass(layer, transposed.data(), reads.block.size, reads.maps + begin, reads.gradients + begin,
                 writes.gradients + group * writes.block.group_vectors(), reads.mean, weight_sums.data(),
                 activation_sums.data(), scratch);
        }
        gather(weight_sums.data(), layer.n_written, layer.n_read, own.by_weights);
    };
    if (layer.n_taps == 1)
        run.template operator()<Exact<T>>(backward_pointwise<T>, gather_pointwise_gradient<T>);
    else
        run.template operator()<Form>(backward<Form>, gather_weight_gradient<Form, T>);
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
