// The kernels of bottlenecks: BN-ReLU and 1x1 convolution, a matrix product at every pixel. See layer_kernels.h.

#include "layer_kernels.h"

namespace skipsearch {
namespace {

constexpr int64_t BAND_BYTES = 1 << 17;  // of gradients of all channels written, in the second-level cache

// Vectors from one pixel to the next in a band (pixel, channel): odd, or the cache would keep all pixels in a few places.
inline int64_t pixel_stride(int64_t n_channels) { return n_channels | 1; }

// Call f with n as a constant, at most MOST.
template <int MOST, typename F>
inline void with_constant(int64_t n, F f) {
    if constexpr (MOST > 1) {
        if (n < MOST) return with_constant<MOST - 1>(n, f);
    }
    f.template operator()<MOST>();
}

// Call f with n as a constant: one of the numbers that tile_channels gives.
template <int MOST = MOST_CHANNELS, typename F>
inline void with_tile(int n, F f) {
    if constexpr (MOST > 1) {
        if (n < MOST) return with_tile<MOST / 2>(n, f);
    }
    f.template operator()<MOST>();
}

// Write f of one row of a map as a channel of a band (pixel, channel).
template <typename T, typename F>
inline void fill_pixels(const Vector<T>* row, int64_t width, Vector<T>* to, int64_t stride, F f) {
    for (int64_t x = 0; x < width; ++x) to[x * stride] = f(row[x]);
}

// R channels x P pixels of a product, kept in registers. weights: (channel read, R).
template <typename T, int R, int P>
inline void multiply_tile(const Vector<T>* pixels, int64_t stride, const T* weights, int64_t n_read,
                          Vector<T> (&sums)[R][P]) {
    for (int64_t channel = 0; channel < n_read; ++channel, weights += R) {
        Vector<T> x[P];
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) x[p] = pixels[p * stride + channel];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const T weight = weights[r];
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p) sums[r][p] += weight * x[p];
        }
    }
}

// A 1x1 convolution of one row (pixel, channel read); f takes each tile as (sums, first channel, first column).
template <typename T, typename F>
void multiply_row(const Vector<T>* pixels, const T* weights, int64_t n_read, int64_t n_written, int64_t width, F f) {
    const int64_t stride = pixel_stride(n_read);
    const int64_t widest = std::min<int64_t>(MOST_COLUMNS, N_ACCUMULATORS / tile_channels(n_written));
    const int64_t n_tiles = (width + widest - 1) / widest;
    for (int64_t tile = 0; tile < n_tiles; ++tile) {
        const int64_t begin = tile * width / n_tiles, end = (tile + 1) * width / n_tiles;
        const T* own = weights;
        for (int64_t channel = 0; channel < n_written;) {
            const int n = tile_channels(n_written - channel);
            with_tile(n, [&]<int R>() {
                with_constant<std::min(N_ACCUMULATORS / R, MOST_COLUMNS)>(end - begin, [&]<int P>() {
                    Vector<T> sums[R][P] = {};
                    multiply_tile<T, R, P>(pixels + begin * stride, stride, own, n_read, sums);
                    f.template operator()<R, P>(sums, channel, begin);
                });
            });
            own += n * n_read;
            channel += n;
        }
    }
}

// A band's part of the gradient of the weights from K channels read to all written: (written, K).
// activations: (pixel, K). gradients: (pixel, written).
template <typename T, int K>
void correlate_pixels(const Vector<T>* activations, const Vector<T>* gradients, int64_t n_pixels, int64_t n_written,
                      Vector<T>* sums) {
    constexpr int MOST = std::min(N_ACCUMULATORS / K, 6);
    const int64_t stride = pixel_stride(n_written);
    for (int64_t first = 0; first < n_written; first += MOST)
        with_constant<MOST>(std::min<int64_t>(MOST, n_written - first), [&]<int R>() {
            Vector<T> own[R][K];
            Vector<T>* to = sums + first * K;
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k) own[r][k] = to[r * K + k];
            for (int64_t pixel = 0; pixel < n_pixels; ++pixel) {
                Vector<T> gradient[R];
#pragma GCC unroll 8
                for (int r = 0; r < R; ++r) gradient[r] = gradients[pixel * stride + first + r];
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k) {
                    const Vector<T> activation = activations[pixel * K + k];
#pragma GCC unroll 8
                    for (int r = 0; r < R; ++r) own[r][k] += gradient[r] * activation;
                }
            }
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k) to[r * K + k] = own[r][k];
        });
}

}  // namespace

template <typename T>
void forward_pointwise(const Layer<T>& layer, const T* arranged, const Size& size, const Vector<T>* maps,
                       Vector<T>* written, std::vector<Vector<T>>& scratch) {
    const int64_t stride = pixel_stride(layer.n_read);
    scratch.resize(stride * size.width);
    for (int64_t y = 0; y < size.height; ++y) {
        for (int64_t k = 0; k < layer.n_read; ++k) {
            const Place place = layer.places[layer.channels[k]];
            const T factor = layer.factor[k], offset = layer.offset[k];
            fill_pixels<T>(maps + place.begin + y * place.row, size.width, scratch.data() + k, stride,
                           [=](const Vector<T>& x) { return rectify<T>(factor * x + offset); });
        }
        multiply_row<T>(scratch.data(), arranged, layer.n_read, layer.n_written, size.width,
                        [&]<int R, int P>(const Vector<T>(&sums)[R][P], int64_t channel, int64_t x) {
                            keep_tile<T, R, P>(layer, sums, channel, y, x, written);
                        });
    }
}

template <typename T>
void backward_pointwise(const Layer<T>& layer, const T* transposed, const Size& size, const Vector<T>* maps,
                        Vector<T>* gradients, const Vector<T>* written, const T* means, Vector<T>* by_weight,
                        Vector<T>* by_activation, std::vector<Vector<T>>& scratch) {
    const int64_t stride = pixel_stride(layer.n_written), row_vectors = stride * size.width;
    const int64_t n_rows = std::clamp<int64_t>(BAND_BYTES / (row_vectors * VECTOR_BYTES), 1, size.height);
    scratch.resize(n_rows * (row_vectors + MOST_CHANNELS * size.width));
    Vector<T>* activations = scratch.data() + n_rows * row_vectors;
    for (int64_t first = 0; first < size.height; first += n_rows) {
        const int64_t last = std::min(first + n_rows, size.height);
        for (int64_t channel = 0; channel < layer.n_written; ++channel) {
            const Place place = layer.written[channel];
            for (int64_t y = first; y < last; ++y)
                fill_pixels<T>(written + place.begin + y * place.row, size.width,
                               scratch.data() + (y - first) * row_vectors + channel, stride,
                               [](const Vector<T>& gradient) { return gradient; });
        }
        Vector<T>* sums = by_weight;
        for (int64_t channel = 0; channel < layer.n_read;) {
            const int n = tile_channels(layer.n_read - channel);
            for (int64_t k = channel; k < channel + n; ++k) {
                const Place place = layer.places[layer.channels[k]];
                const T factor = layer.factor[k], offset = layer.offset[k];
                for (int64_t y = first; y < last; ++y)
                    fill_pixels<T>(maps + place.begin + y * place.row, size.width,
                                   activations + (y - first) * size.width * n + k - channel, n,
                                   [=](const Vector<T>& x) { return rectify<T>(factor * x + offset); });
            }
            with_tile(n, [&]<int K>() {
                correlate_pixels<T, K>(activations, scratch.data(), (last - first) * size.width, layer.n_written, sums);
            });
            sums += n * layer.n_written;
            channel += n;
        }
        for (int64_t y = first; y < last; ++y)
            multiply_row<T>(scratch.data() + (y - first) * row_vectors, transposed, layer.n_written, layer.n_read,
                            size.width, [&]<int R, int P>(const Vector<T>(&tile)[R][P], int64_t channel, int64_t x) {
                                hand_on<T, R, P>(layer, tile, channel, y, x, maps, gradients, means, by_activation);
                            });
    }
}

#define INSTANTIATE(T)                                                                                              \
    template void forward_pointwise<T>(const Layer<T>&, const T*, const Size&, const Vector<T>*, Vector<T>*,        \
                                       std::vector<Vector<T>>&);                                                    \
    template void backward_pointwise<T>(const Layer<T>&, const T*, const Size&, const Vector<T>*, Vector<T>*,       \
                                        const Vector<T>*, const T*, Vector<T>*, Vector<T>*, std::vector<Vector<T>>&);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace skipsearch
