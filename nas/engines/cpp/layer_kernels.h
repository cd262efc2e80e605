// Layers of small networks on a CPU: BN-ReLU and convolution in cache, forward and backward, without torch.
//
// Maps have the axes (group, node, row, channel of the node, column, lane): a group is LANES images of the batch, one
// in each lane. So every load is a whole vector at any image size, one weight serves LANES images at a time, and a band of
// rows of a node is contiguous.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace skipsearch {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
constexpr int N_ACCUMULATORS = 24;  // of 32 registers
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
constexpr int N_ACCUMULATORS = 12;  // of 16
#elif defined(__aarch64__)
constexpr int VECTOR_BYTES = 16;
constexpr int N_ACCUMULATORS = 24;  // of 32
#else
constexpr int VECTOR_BYTES = 16;
constexpr int N_ACCUMULATORS = 12;  // of 16
#endif
constexpr int TAPS = 3;                               // of a convolution, each way
constexpr int MOST_CHANNELS = N_ACCUMULATORS / TAPS;  // that a tile writes
constexpr int MOST_COLUMNS = 6;                       // of a tile

template <typename T>
struct VectorOf {
    typedef T type __attribute__((vector_size(VECTOR_BYTES)));
};
template <typename T>
using Vector = typename VectorOf<T>::type;
template <typename T>
constexpr int LANES = VECTOR_BYTES / sizeof(T);

struct Size {
    int64_t height, width;
    int64_t pixels() const { return height * width; }
    int64_t padded() const { return width + 2; }
};

// The place of a channel's map in its group: its first vector, and the distance of rows in vectors.
struct Place {
    int64_t begin, row;
};

template <typename T>
inline T add_lanes(const Vector<T>& vector) {
    T sum = 0;
    for (int lane = 0; lane < LANES<T>; ++lane) sum += vector[lane];
    return sum;
}

// Number of channels that the next tile writes when n_left remain.
inline int tile_channels(int64_t n_left) {
    int n = MOST_CHANNELS;
    while (n > n_left) n /= 2;
    return n;
}

// Number of operands that n channels or rows are joined into, in a form of product_forms.h.
template <typename Form>
int64_t count_joined(int64_t n) {
    return (n + Form::JOINED - 1) / Form::JOINED;
}

// A convolution's weights, function of channel written, channel read and tap -> tile after tile of channels written
// (operand read, tap, channel of the tile).
template <typename Form, typename F>
std::vector<typename Form::Weight> arrange(int64_t n_written, int64_t n_read, int n_taps, F weight) {
    using Number = typename Form::Number;
    std::vector<typename Form::Weight> arranged;
    arranged.reserve(n_written * count_joined<Form>(n_read) * n_taps);
    for (int64_t first = 0; first < n_written;) {
        const int n = tile_channels(n_written - first);
        for (int64_t read = 0; read < n_read; read += Form::JOINED)
            for (int tap = 0; tap < n_taps; ++tap)
                for (int64_t r = first; r < first + n; ++r)
                    arranged.push_back(Form::join_weights(
                        weight(r, read, tap), read + 1 < n_read ? weight(r, read + 1, tap) : Number(0)));
        first += n;
    }
    return arranged;
}

// Weights (written, read, taps) as forward takes them.
template <typename Form, typename T>
auto arrange_weights(const T* weights, int64_t n_written, int64_t n_read, int n_taps) {
    return arrange<Form>(n_written, n_read, n_taps, [=](int64_t written, int64_t read, int tap) {
        return weights[(written * n_read + read) * n_taps + tap];
    });
}

// The same for the transposed convolution, which passes gradients from the channels written to those read.
template <typename Form, typename T>
auto arrange_transposed(const T* weights, int64_t n_written, int64_t n_read, int n_taps) {
    return arrange<Form>(n_read, n_written, n_taps, [=](int64_t read, int64_t written, int tap) {
        return weights[(written * n_read + read) * n_taps + n_taps - 1 - tap];
    });
}

// One convolution of a layer: what it reads, writes, and normalises by.
template <typename T>
struct Layer {
    int64_t n_read, n_written;
    int n_taps;                        // 9 of a 3x3 convolution, 1 of a bottleneck's 1x1
    std::vector<int64_t> channels;     // channels that it reads
    const Place* places;               // places of all channels of the maps that it reads
    const Place* written;              // places of the channels that it writes, in their maps
    const T* weights;                  // (written, read, taps)
    std::vector<T> factor, offset;     // BN of each channel read: factor * x + offset
    std::vector<char> is_fresh;        // whether nothing was added to the channel's gradient yet
};

// The passes of a 3x3 convolution compute products in a form of product_forms.h.
template <typename Form>
using Maps = Vector<typename Form::Number>;
template <typename Form>
using Scratch = std::vector<typename Form::Operand>;

// Write one group's maps of a layer with a 3x3 convolution. maps: of the channels read; written: of those written.
template <typename Form>
void forward(const Layer<typename Form::Number>& layer, const typename Form::Weight* arranged, const Size& size,
             const Maps<Form>* maps, Maps<Form>* written, Scratch<Form>& scratch);

// Add one group's part of the layer's gradients.
// maps, gradients: of the channels read; gradients of fresh channels are uninitialised. written: gradients of the
// channels written. means: of each channel read.
// by_weight: (read, tile of written, row of taps, channel of the tile, column of taps). by_activation: (read, 2): sums,
// over this group's images, of the gradient of BN's result, and of its product with BN's input less the mean.
template <typename Form>
void backward(const Layer<typename Form::Number>& layer, const typename Form::Weight* transposed, const Size& size,
              const Maps<Form>* maps, Maps<Form>* gradients, const Maps<Form>* written,
              const typename Form::Number* means, Maps<Form>* by_weight, Maps<Form>* by_activation,
              Scratch<Form>& scratch);

// The same for a 1x1 convolution. by_weight: (tile of read, written, channel of the tile).
template <typename T>
void forward_pointwise(const Layer<T>& layer, const T* arranged, const Size& size, const Vector<T>* maps,
                       Vector<T>* written, std::vector<Vector<T>>& scratch);
template <typename T>
void backward_pointwise(const Layer<T>& layer, const T* transposed, const Size& size, const Vector<T>* maps,
                        Vector<T>* gradients, const Vector<T>* written, const T* means, Vector<T>* by_weight,
                        Vector<T>* by_activation, std::vector<Vector<T>>& scratch);

// Not 0 for NaN, which must reach the loss.
template <typename T>
inline Vector<T> rectify(const Vector<T>& x) {
    return x < T(0) ? Vector<T>{} : x;
}

// Keep a tile of a convolution, R channels x P columns of row y.
template <typename T, int R, int P>
inline void keep_tile(const Layer<T>& layer, const Vector<T> (&sums)[R][P], int64_t channel, int64_t y, int64_t x,
                      Vector<T>* written) {
    for (int r = 0; r < R; ++r) {
        const Place place = layer.written[channel + r];
        for (int p = 0; p < P; ++p) written[place.begin + y * place.row + x + p] = sums[r][p];
    }
}

// Hand a tile of the activations' gradients on to the channels read, and to the sums of by_activation; see backward.
template <typename T, int R, int P>
inline void hand_on(const Layer<T>& layer, const Vector<T> (&sums)[R][P], int64_t first, int64_t y, int64_t x,
                    const Vector<T>* maps, Vector<T>* gradients, const T* means, Vector<T>* by_activation) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
        const int64_t k = first + r;
        const Place place = layer.places[layer.channels[k]];
        const int64_t begin = place.begin + y * place.row + x;
        const T factor = layer.factor[k], offset = layer.offset[k], mean = means[layer.channels[k]];
        const bool is_fresh = layer.is_fresh[k];
        Vector<T> sum = by_activation[2 * k], product = by_activation[2 * k + 1];
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
            const Vector<T> map = maps[begin + p];
            const Vector<T> gradient = factor * map + offset > T(0) ? sums[r][p] : Vector<T>{};
            sum += gradient;
            product += gradient * (map - mean);
            gradients[begin + p] = factor * gradient + (is_fresh ? Vector<T>{} : gradients[begin + p]);
            __builtin_prefetch(&gradients[begin + P + p], 1);  // of the next tile
        }
        by_activation[2 * k] = sum;
        by_activation[2 * k + 1] = product;
    }
}

// Add up the lanes of by_weight into the gradient of the weights (written, read, 3, 3).
template <typename Form, typename T>
void gather_weight_gradient(const Vector<T>* by_weight, int64_t n_written, int64_t n_read, T* gradient) {
    for (int64_t read = 0; read < n_read; ++read)
        for (int64_t first = 0; first < n_written;) {
            const int n = tile_channels(n_written - first);
            for (int i = 0; i < TAPS; ++i)
                for (int r = 0; r < n; ++r)
                    for (int j = 0; j < TAPS; ++j)
                        gradient[(((first + r) * n_read + read) * TAPS + i) * TAPS + j] = Form::add_lanes(*by_weight++);
            first += n;
        }
}

// The same for a 1x1 convolution, (written, read).
template <typename T>
void gather_pointwise_gradient(const Vector<T>* by_weight, int64_t n_written, int64_t n_read, T* gradient) {
    for (int64_t first = 0; first < n_read;) {
        const int n = tile_channels(n_read - first);
        for (int64_t written = 0; written < n_written; ++written)
            for (int k = 0; k < n; ++k) gradient[written * n_read + first + k] = add_lanes<T>(*by_weight++);
        first += n;
    }
}

}  // namespace skipsearch
