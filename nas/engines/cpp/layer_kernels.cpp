// The kernels of layer_kernels.h, a unit of their own that is compiled in parallel with the operator's.

#include "layer_kernels.h"

namespace skipsearch {
namespace {

constexpr int64_t ACTIVATIONS_BYTES = 1 << 19;     // of a forward pass's band, which fits in the second-level cache
constexpr int64_t GRADIENT_BYTES = 1 << 17;        // of a backward pass's band: likewise, with its activations

// Number of rows of n_channels maps that fit in so many bytes, with one more row above and below.
template <typename T>
inline int64_t band_rows(int64_t bytes, int64_t n_channels, const Size& size) {
    const int64_t row_bytes = n_channels * size.padded() * VECTOR_BYTES;
    return std::clamp<int64_t>(bytes / row_bytes - 2, 1, size.height);
}

// Write f of rows first - 1 to last of a map into a band; outside the map the band is 0.
template <typename T, typename F>
inline void fill_band(const Vector<T>* maps, Place place, Vector<T>* band, int64_t first, int64_t last, const Size& size, F f) {
    for (int64_t row = first - 1; row <= last; ++row) {
        Vector<T>* to = band + (row - first + 1) * size.padded() + 1;
        to[-1] = to[size.width] = Vector<T>{};
        if (row < 0 || row >= size.height) {
            std::fill_n(to, size.width, Vector<T>{});
        } else {
            const Vector<T>* from = maps + place.begin + row * place.row;
            for (int64_t column = 0; column < size.width; ++column) to[column] = f(from[column]);
        }
    }
}

// R channels x P columns of a convolution's output, kept in registers.
// window: start of the tile's windows in the band's first channel. weights: (channel read, tap, R).
template <typename T, int R, int P>
inline void convolve_tile(const Vector<T>* window, int64_t plane, int64_t row, const T* weights, int64_t n_read,
                          Vector<T> (&sums)[R][P]) {
    for (int64_t channel = 0; channel < n_read; ++channel, window += plane) {
#pragma GCC unroll 3
        for (int i = 0; i < TAPS; ++i) {
            Vector<T> x[P + 2];
#pragma GCC unroll 8
            for (int p = 0; p < P + 2; ++p) x[p] = window[i * row + p];
#pragma GCC unroll 3
            for (int j = 0; j < TAPS; ++j, weights += R) {
#pragma GCC unroll 8
                for (int r = 0; r < R; ++r) {
                    const T weight = weights[r];
#pragma GCC unroll 8
                    for (int p = 0; p < P; ++p) sums[r][p] += weight * x[p + j];
                }
            }
        }
    }
}

template <typename T, int R, int P, typename F>
inline void finish_tile(const Vector<T>* window, int64_t plane, int64_t row, const T* weights, int64_t n_read, F& f,
                        int64_t channel, int64_t y, int64_t x) {
    Vector<T> sums[R][P] = {};
    convolve_tile<T, R, P>(window, plane, row, weights, n_read, sums);
    f.template operator()<R, P>(sums, channel, y, x);
}

// The widths of a row's tiles are as equal as possible.
template <typename T, int R, typename F>
inline void convolve_row(const Vector<T>* window, int64_t plane, const Size& size, const T* weights, int64_t n_read,
                         F& f, int64_t channel, int64_t y, int64_t begin, int64_t end) {
    constexpr int MOST = std::min(N_ACCUMULATORS / R, MOST_COLUMNS);
    auto run = [&]<int P>() {
        finish_tile<T, R, P>(window + begin, plane, size.padded(), weights, n_read, f, channel, y, begin);
    };
    switch (end - begin) {
        case 1: return run.template operator()<1>();
        case 2: return run.template operator()<std::min(2, MOST)>();
        case 3: return run.template operator()<std::min(3, MOST)>();
        case 4: return run.template operator()<std::min(4, MOST)>();
        case 5: return run.template operator()<std::min(5, MOST)>();
        default: return run.template operator()<std::min(6, MOST)>();
    }
}

// Rows first to last - 1 of a 3x3 convolution of a band; f takes each tile as (sums, first channel, row, first column).
template <typename T, typename F>
void convolve_band(const Vector<T>* band, int64_t n_rows, const T* weights, int64_t n_read, int64_t n_written,
                   int64_t first, int64_t last, const Size& size, F f) {
    const int64_t plane = (n_rows + 2) * size.padded();
    const int64_t widest = std::min<int64_t>(MOST_COLUMNS, N_ACCUMULATORS / tile_channels(n_written));
    const int64_t n_tiles = (size.width + widest - 1) / widest;
    for (int64_t row = first; row < last; ++row) {
        const Vector<T>* window = band + (row - first) * size.padded();
        for (int64_t tile = 0; tile < n_tiles; ++tile) {
            const int64_t begin = tile * size.width / n_tiles, end = (tile + 1) * size.width / n_tiles;
            const T* own = weights;
            for (int64_t channel = 0; channel < n_written;) {
                const int n = tile_channels(n_written - channel);
                auto run = [&]<int R>() {
                    convolve_row<T, R>(window, plane, size, own, n_read, f, channel, row, begin, end);
                };
                switch (n) {
                    case 1: run.template operator()<1>(); break;
                    case 2: run.template operator()<2>(); break;
                    case 4: run.template operator()<4>(); break;
                    default: run.template operator()<MOST_CHANNELS>(); break;
                }
                own += n * n_read * TAPS * TAPS;
                channel += n;
            }
        }
    }
}

// A band's part of the gradient of the weights from one channel read to R written: (row of taps, R, column of taps).
// activations: band of the channel read; gradients: bands of the R channels written.
template <typename T, int R>
inline void correlate(const Vector<T>* activations, const Vector<T>* gradients, int64_t plane, int64_t n_rows,
                      const Size& size, Vector<T>* sums) {
    const int64_t row = size.padded();
    for (int i = 0; i < TAPS; ++i, sums += R * TAPS) {
        Vector<T> own[R][TAPS];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
            for (int j = 0; j < TAPS; ++j) own[r][j] = sums[r * TAPS + j];
        for (int64_t y = 0; y < n_rows; ++y) {
            const Vector<T>* x = activations + (y + i) * row;
            const Vector<T>* g = gradients + (y + 1) * row + 1;
            for (int64_t column = 0; column < size.width; ++column) {
#pragma GCC unroll 8
                for (int r = 0; r < R; ++r) {
                    const Vector<T> gradient = g[r * plane + column];
#pragma GCC unroll 3
                    for (int j = 0; j < TAPS; ++j) own[r][j] += gradient * x[column + j];
                }
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
            for (int j = 0; j < TAPS; ++j) sums[r * TAPS + j] = own[r][j];
    }
}

}  // namespace

template <typename T>
void forward(const Layer<T>& layer, const T* arranged, const Size& size, const Vector<T>* maps, Vector<T>* written,
             std::vector<Vector<T>>& scratch) {
    const int64_t n_rows = band_rows<T>(ACTIVATIONS_BYTES, layer.n_read, size);
    const int64_t plane = (n_rows + 2) * size.padded();
    scratch.resize(layer.n_read * plane);
    auto keep = [&]<int R, int P>(const Vector<T>(&sums)[R][P], int64_t channel, int64_t y, int64_t x) {
        keep_tile<T, R, P>(layer, sums, channel, y, x, written);
    };
    for (int64_t first = 0; first < size.height; first += n_rows) {
        const int64_t last = std::min(first + n_rows, size.height);
        for (int64_t k = 0; k < layer.n_read; ++k) {
            const T factor = layer.factor[k], offset = layer.offset[k];
            fill_band<T>(maps, layer.places[layer.channels[k]], scratch.data() + k * plane, first, last, size,
                      [=](const Vector<T>& x) { return rectify<T>(factor * x + offset); });
        }
        convolve_band<T>(scratch.data(), n_rows, arranged, layer.n_read, layer.n_written, first, last, size, keep);
    }
}

template <typename T>
void backward(const Layer<T>& layer, const T* transposed, const Size& size, const Vector<T>* maps,
              Vector<T>* gradients, const Vector<T>* written, const T* means, Vector<T>* by_weight,
              Vector<T>* by_activation, std::vector<Vector<T>>& scratch) {
    const int64_t n_rows = band_rows<T>(GRADIENT_BYTES, layer.n_written, size);
    const int64_t plane = (n_rows + 2) * size.padded();
    scratch.resize((layer.n_written + 1) * plane);
    Vector<T>* activations = scratch.data() + layer.n_written * plane;
    auto pass = [&]<int R, int P>(const Vector<T>(&sums)[R][P], int64_t channel, int64_t y, int64_t x) {
        hand_on<T, R, P>(layer, sums, channel, y, x, maps, gradients, means, by_activation);
    };
    for (int64_t first = 0; first < size.height; first += n_rows) {
        const int64_t last = std::min(first + n_rows, size.height);
        for (int64_t channel = 0; channel < layer.n_written; ++channel)
            fill_band<T>(written, layer.written[channel], scratch.data() + channel * plane, first, last, size,
                         [](const Vector<T>& gradient) { return gradient; });
        Vector<T>* sums = by_weight;
        for (int64_t k = 0; k < layer.n_read; ++k) {
            const T factor = layer.factor[k], offset = layer.offset[k];
            fill_band<T>(maps, layer.places[layer.channels[k]], activations, first, last, size,
                      [=](const Vector<T>& x) { return rectify<T>(factor * x + offset); });
            for (int64_t channel = 0; channel < layer.n_written;) {
                const int n = tile_channels(layer.n_written - channel);
                const Vector<T>* own = scratch.data() + channel * plane;
                auto run = [&]<int R>() { correlate<T, R>(activations, own, plane, last - first, size, sums); };
                switch (n) {
                    case 1: run.template operator()<1>(); break;
                    case 2: run.template operator()<2>(); break;
                    case 4: run.template operator()<4>(); break;
                    default: run.template operator()<MOST_CHANNELS>(); break;
                }
                sums += n * TAPS * TAPS;
                channel += n;
            }
        }
        convolve_band<T>(scratch.data(), n_rows, transposed, layer.n_written, layer.n_read, first, last, size, pass);
    }
}

template void forward<float>(const Layer<float>&, const float*, const Size&, const Vector<float>*, Vector<float>*,
                             std::vector<Vector<float>>&);
template void forward<double>(const Layer<double>&, const double*, const Size&, const Vector<double>*, Vector<double>*,
                              std::vector<Vector<double>>&);
template void backward<float>(const Layer<float>&, const float*, const Size&, const Vector<float>*, Vector<float>*,
                              const Vector<float>*, const float*, Vector<float>*, Vector<float>*,
                              std::vector<Vector<float>>&);
template void backward<double>(const Layer<double>&, const double*, const Size&, const Vector<double>*, Vector<double>*,
                               const Vector<double>*, const double*, Vector<double>*, Vector<double>*,
                               std::vector<Vector<double>>&);

}  // namespace skipsearch
