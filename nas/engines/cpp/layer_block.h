// A block, checked: what its layers read, where its maps lie, and walks over them.

#pragma once

#include <ATen/ATen.h>

#include <memory>

#include "layer_kernels.h"

namespace skipsearch {

using at::IntArrayRef;
using at::Tensor;
using at::TensorList;

// A block: its nodes are the inputs, then one a layer; the channels of all nodes are numbered through.
//
// A layer is one 3x3 convolution, or with bottlenecks a 1x1 and then a 3x3 one: then parameters are those of all 1x1
// convolutions followed by those of all 3x3 ones, and what a layer keeps in between is the only node of a block `inner`.
struct Block {
    int64_t n_members, n_images, n_layers = 0, growth = 0, wide = 0;  // wide: channels of a bottleneck; 0: there is none
    Size size;
    std::vector<int64_t> first;                           // first channel of each node, then their number
    std::vector<Place> places;                            // place of each channel
    std::vector<std::vector<std::vector<int64_t>>> read;  // channels read: member, layer
    std::unique_ptr<const Block> inner;

    Block(int64_t n_members, int64_t n_images, Size size, const std::vector<int64_t>& widths)
        : n_members(n_members), n_images(n_images), size(size), first{0} {
        for (int64_t width : widths) add_node(width);
    }

    Block(int64_t n_members, int64_t n_images, Size size, const std::vector<int64_t>& widths, const Tensor& sources,
          IntArrayRef degrees, TensorList weights)
        : Block(n_members, n_images, size, widths) {
        n_layers = degrees.size();
        const int64_t n_convolutions = weights.size();
        TORCH_CHECK(!widths.empty() && n_layers > 0 && (n_convolutions == n_layers || n_convolutions == 2 * n_layers) &&
                        weights.front().dim() >= 4 && weights.back().dim() >= 4,
                    "layers: a block has inputs, layers, as many in-degrees as layers, and weights of one convolution "
                    "or two a layer");
        growth = weights.back().size(-4);
        if (n_convolutions == 2 * n_layers) wide = weights.front().size(-4);
        if (wide) inner = std::make_unique<const Block>(1, n_images, size, std::vector<int64_t>{wide});
        for (int64_t layer = 0; layer < n_layers; ++layer) add_node(growth);
        list_channels(sources, degrees, widths.size());
        for (int64_t number = 0; number < n_convolutions; ++number) {
            const int64_t n_taps = has_one_tap(number) ? 1 : TAPS;
            const IntArrayRef shape = weights[number].sizes();
            TORCH_CHECK(shape.size() >= 4 && shape.slice(shape.size() - 4) ==
                                                 IntArrayRef({n_written(number), n_read(number), n_taps, n_taps}) &&
                            weights[number].numel() == n_members * n_written(number) * n_read(number) * n_taps * n_taps,
                        "layers: layer ", number % n_layers + 1, " reads ", n_read(number),
                        " channels, and its weights are ", shape);
        }
    }

    void add_node(int64_t width) {
        for (int64_t channel = 0; channel < width; ++channel)
            places.push_back({first.back() * size.pixels() + channel * size.width, width * size.width});
        first.push_back(first.back() + width);
    }

    void list_channels(const Tensor& sources, IntArrayRef degrees, int64_t n_inputs) {
        int64_t n_sources = 0;
        for (int64_t degree : degrees) n_sources += degree;
        TORCH_CHECK(sources.scalar_type() == at::kLong && sources.sizes() == IntArrayRef({n_members, n_sources}),
                    "layers: sources are int64 (cohort, all layers' in-degrees), here (", n_members, ", ", n_sources,
                    "), given ", sources.sizes());
        const Tensor table = sources.contiguous();
        const int64_t* node = table.const_data_ptr<int64_t>();
        read.resize(n_members);
        for (int64_t member = 0; member < n_members; ++member)
            for (int64_t layer = 0; layer < n_layers; ++layer) {
                std::vector<int64_t> own;
                for (int64_t k = 0; k < degrees[layer]; ++k, ++node) {
                    TORCH_CHECK(0 <= *node && *node < n_inputs + layer, "layers: layer ", layer + 1,
                                " of a block of ", n_inputs, " inputs cannot read node ", *node);
                    for (int64_t channel = first[*node]; channel < first[*node + 1]; ++channel) own.push_back(channel);
                }
                TORCH_CHECK(member == 0 || own.size() == read[0][layer].size(), "layers: layer ", layer + 1, " reads ",
                            own.size(), " channels, and in another member ", read[0][layer].size());
                read[member].push_back(std::move(own));
            }
    }

    // Convolutions are numbered as their parameters are.
    int64_t n_convolutions() const { return wide ? 2 * n_layers : n_layers; }
    bool has_one_tap(int64_t number) const { return wide && number < n_layers; }
    int64_t n_read(int64_t number) const { return number < n_layers ? read[0][number].size() : wide; }
    int64_t n_written(int64_t number) const { return has_one_tap(number) ? wide : growth; }

    // Channels with statistics: those of all nodes, then those of all bottlenecks.
    int64_t n_measured() const { return n_channels() + n_layers * wide; }
    int64_t first_inner(int64_t layer) const { return n_channels() + layer * wide; }
    int64_t n_channels() const { return first.back(); }
    int64_t n_inputs() const { return (int64_t)first.size() - 1 - n_layers; }
    int64_t n_values() const { return n_images * size.pixels(); }  // values of a channel
    template <typename T>
    int64_t n_groups() const {
        return (n_images + LANES<T> - 1) / LANES<T>;
    }
    int64_t group_vectors() const { return n_channels() * size.pixels(); }
    std::vector<int64_t> shape(int64_t node) const {  // as torch has it
        return {n_members, n_images, first[node + 1] - first[node], size.height, size.width};
    }
};

template <typename T>
Tensor new_maps(const Block& block, const at::TensorOptions& options, bool zero) {
    const std::vector<int64_t> shape{block.n_members,   block.n_groups<T>(), block.n_channels(),
                                     block.size.height, block.size.width,    LANES<T>};
    return zero ? at::zeros(shape, options) : at::empty(shape, options);
}

// The maps of one member, const or not.
template <typename T, typename Scalar>
auto view_maps(const Block& block, Scalar* maps, int64_t member) {
    using Own = std::conditional_t<std::is_const_v<Scalar>, const Vector<T>, Vector<T>>;
    return reinterpret_cast<Own*>(maps) + member * block.n_groups<T>() * block.group_vectors();
}

// Room for the bottleneck maps of one layer of a member; empty if there are none.
template <typename T>
Tensor new_inner(const Block& block, const at::TensorOptions& options) {
    return block.inner ? new_maps<T>(*block.inner, options, false) : at::empty({0}, options);
}

// Apply f(image's value, map's value) to a node's images (batch, channels, height, width) and its maps of all groups.
template <typename T, typename F>
void visit_images(const Block& block, T* images, Vector<T>* maps, int64_t node, F f) {
    const auto [height, width] = block.size;
    const int64_t n_channels = block.first[node + 1] - block.first[node];
    const Place* places = &block.places[block.first[node]];
    for (int64_t begin = 0; begin < block.n_images; begin += LANES<T>, maps += block.group_vectors()) {
        const int64_t end = std::min<int64_t>(begin + LANES<T>, block.n_images);
        for (int64_t row = 0; row < n_channels * height; ++row) {  // row by row, which stays in the cache
            const Place place = places[row / height];
            T* lanes = reinterpret_cast<T*>(maps + place.begin + row % height * place.row);
            for (int64_t image = begin; image < end; ++image) {
                T* own = images + (image * n_channels * height + row) * width;
                for (int64_t x = 0; x < width; ++x) f(own[x], lanes[x * LANES<T> + image - begin]);
            }
        }
    }
}

// 1 for each lane of the last group that holds an image, 0 for the others.
template <typename T>
Vector<T> mask_last(const Block& block) {
    Vector<T> mask = {};
    for (int64_t lane = 0; lane <= (block.n_images - 1) % LANES<T>; ++lane) mask[lane] = 1;
    return mask;
}

// Apply f(vector, mask) to all of a channel's maps.
template <typename T, typename F>
void visit_channel(const Block& block, int64_t channel, F f) {
    const Vector<T> every = Vector<T>{} + T(1), last = mask_last<T>(block);
    const int64_t n_groups = block.n_groups<T>();
    const Place place = block.places[channel];
    for (int64_t group = 0; group < n_groups; ++group) {
        const Vector<T> mask = group == n_groups - 1 ? last : every;
        for (int64_t y = 0; y < block.size.height; ++y) {
            const int64_t begin = group * block.group_vectors() + place.begin + y * place.row;
            for (int64_t i = begin; i < begin + block.size.width; ++i) f(i, mask);
        }
    }
}

// Mean and variance of a channel over batch and pixels, in two passes.
template <typename T>
void measure_channel(const Block& block, const Vector<T>* maps, int64_t channel, T* mean, T* variance) {
    Vector<T> sum = {}, squares = {};
    visit_channel<T>(block, channel, [&](int64_t i, const Vector<T>& mask) { sum += maps[i] * mask; });
    const T centre = mean[channel] = add_lanes<T>(sum) / block.n_values();
    visit_channel<T>(block, channel, [&](int64_t i, const Vector<T>& mask) {
        const Vector<T> deviation = (maps[i] - centre) * mask;
        squares += deviation * deviation;
    });
    variance[channel] = add_lanes<T>(squares) / block.n_values();
}

inline Block read_block(TensorList inputs, const Tensor& sources, IntArrayRef degrees, TensorList weights) {
    TORCH_CHECK(!inputs.empty(), "layers: a block has an input at least");
    std::vector<int64_t> widths;
    for (const Tensor& input : inputs) {
        const IntArrayRef shape = inputs[0].sizes(), own = input.sizes();
        TORCH_CHECK(own.size() == 5 && own.slice(0, 2) == shape.slice(0, 2) && own.slice(3) == shape.slice(3),
                    "layers: inputs are (cohort, batch, channels, height, width), given ", shape, " and ", own);
        TORCH_CHECK(input.numel() > 0 && input.scalar_type() == inputs[0].scalar_type(),
                    "layers: inputs are of one type, and none is empty");
        widths.push_back(own[2]);
    }
    const IntArrayRef shape = inputs[0].sizes();
    return Block(shape[0], shape[1], {shape[3], shape[4]}, widths, sources, degrees, weights);
}

// The kernels trust the shapes: tensors that do not fit must not reach them.
inline void check_fit(const Block& block, IntArrayRef outputs, std::initializer_list<TensorList> normalisations) {
    const int64_t n_nodes = block.n_inputs() + block.n_layers, n_convolutions = block.n_convolutions();
    for (int64_t node : outputs)
        TORCH_CHECK(0 <= node && node < n_nodes, "layers: a block of ", n_nodes, " nodes cannot give node ", node);
    for (const TensorList list : normalisations) {
        TORCH_CHECK((int64_t)list.size() == n_convolutions, "layers: of scales, shifts and running statistics there is "
                    "one a convolution, given ", list.size(), " for ", n_convolutions, " convolutions");
        for (int64_t number = 0; number < n_convolutions; ++number)
            TORCH_CHECK(list[number].numel() == block.n_members * block.n_read(number), "layers: layer ",
                        number % block.n_layers + 1, " reads ", block.n_read(number), " channels, and of its scale, "
                        "shift and running statistics one is ", list[number].sizes());
    }
}

}  // namespace skipsearch
