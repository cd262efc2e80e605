// The kernels of layer_kernels.h, a unit of their own that is compiled in parallel with the operator's.

#include "product_forms.h"

namespace skipsearch {
namespace {

constexpr int64_t ACTIVATIONS_BYTES = 1 << 19;     // of a forward pass's band, which fits in the second-level cache
constexpr int64_t GRADIENT_BYTES = 1 << 17;        // of a backward pass's band: likewise, with its activations

// Number of rows of n_bands bands that fit in so many bytes, with one more row above and below.
template <typename Form>
inline int64_t band_rows(int64_t bytes, int64_t n_bands, const Size& size) {
    const int64_t row_bytes = n_bands * size.padded() * VECTOR_BYTES;
    const int64_t n_rows = std::max<int64_t>(bytes / row_bytes - 2, 1);
    return std::min(count_joined<Form>(n_rows) * Form::JOINED, size.height);
}

// Write a row of a band: f of a row of a map joined with g of another's; nullptr stands for zeros.
template <typename Form, typename J, typename F, typename G>
inline void fill_row(typename Form::Operand* to, int64_t width, J join, const Maps<Form>* own, F f,
                     const Maps<Form>* other, G g) {
    to[-1] = to[width] = typename Form::Operand{};
    if (own != nullptr && other != nullptr)
        for (int64_t column = 0; column < width; ++column) to[column] = join(f(own[column]), g(other[column]));
    else if (own != nullptr)
        for (int64_t column = 0; column < width; ++column) to[column] = join(f(own[column]), Maps<Form>{});
    else if (other != nullptr)
        for (int64_t column = 0; column < width; ++column) to[column] = join(Maps<Form>{}, g(other[column]));
    else
        std::fill_n(to, width, typename Form::Operand{});
}

// Write rows first - 1 to last of two maps, or of one, into a band that joins them; outside the maps the band is 0.
// f, g: functions of a vector of the one and of the other.
template <typename Form, typename F, typename G>
inline void fill_band(const Maps<Form>* maps, const Place* own, F f, const Place* other, G g,
                      typename Form::Operand* band, int64_t first, int64_t last, const Size& size) {
    for (int64_t row = first - 1; row <= last; ++row, band += size.padded()) {
        auto find = [&](const Place* place) {
            return place && 0 <= row && row < size.height ? maps + place->begin + row * place->row : nullptr;
        };
        fill_row<Form>(band + 1, size.width, Form::join_channels, find(own), f, find(other), g);
    }
}

// Write f of every step-th row from begin to end - 1 of a map into a band, each joined with the next row below end.
template <typename Form, typename F>
inline void fill_rows(const Maps<Form>* maps, const Place& place, F f, typename Form::Operand* band, int64_t begin,
                      int64_t end, int64_t step, const Size& size) {
    for (int64_t row = begin; row < end; row += step, band += step * size.padded()) {
        auto find = [&](int64_t own) {
            return 0 <= own && own < std::min(end, size.height) ? maps + place.begin + own * place.row : nullptr;
        };
        const Maps<Form>* next = Form::JOINED > 1 ? find(row + 1) : nullptr;
        fill_row<Form>(band + 1, size.width, Form::join_rows, find(row), f, next, f);
    }
}

// R channels x P columns of a convolution's output, kept in registers.
// window: start of the tile's windows in the first band. weights: (band, tap, R).
template <typename Form, int R, int P>
inline void convolve_tile(const typename Form::Operand* window, int64_t plane, int64_t row,
                          const typename Form::Weight* weights, int64_t n_bands, Maps<Form> (&sums)[R][P]) {
    for (int64_t channel = 0; channel < n_bands; ++channel, window += plane) {
#pragma GCC unroll 3
        for (int i = 0; i < TAPS; ++i) {
            typename Form::Operand x[P + 2];
#pragma GCC unroll 8
            for (int p = 0; p < P + 2; ++p) x[p] = window[i * row + p];
#pragma GCC unroll 3
            for (int j = 0; j < TAPS; ++j, weights += R) {
#pragma GCC unroll 8
                for (int r = 0; r < R; ++r) {
                    const typename Form::Weight weight = weights[r];
#pragma GCC unroll 8
                    for (int p = 0; p < P; ++p) Form::add_product(sums[r][p], weight, x[p + j]);
                }
            }
        }
    }
}

template <typename Form, int R, int P, typename F>
inline void finish_tile(const typename Form::Operand* window, int64_t plane, int64_t row,
                        const typename Form::Weight* weights, int64_t n_bands, F& f, int64_t channel, int64_t y,
                        int64_t x) {
    Maps<Form> sums[R][P] = {};
    convolve_tile<Form, R, P>(window, plane, row, weights, n_bands, sums);
    f.template operator()<R, P>(sums, channel, y, x);
}

// The widths of a row's tiles are as equal as possible.
template <typename Form, int R, typename F>
inline void convolve_row(const typename Form::Operand* window, int64_t plane, const Size& size,
                         const typename Form::Weight* weights, int64_t n_bands, F& f, int64_t channel, int64_t y,
                         int64_t begin, int64_t end) {
    constexpr int MOST = std::min(N_ACCUMULATORS / R, MOST_COLUMNS);
    auto run = [&]<int P>() {
        finish_tile<Form, R, P>(window + begin, plane, size.padded(), weights, n_bands, f, channel, y, begin);
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

// Rows first to last - 1 of a 3x3 convolution of bands; f takes each tile as (sums, first channel, row, first column).
template <typename Form, typename F>
void convolve_bands(const typename Form::Operand* bands, int64_t n_rows, const typename Form::Weight* weights,
                    int64_t n_bands, int64_t n_written, int64_t first, int64_t last, const Size& size, F f) {
    const int64_t plane = (n_rows + 2) * size.padded();
    const int64_t widest = std::min<int64_t>(MOST_COLUMNS, N_ACCUMULATORS / tile_channels(n_written));
    const int64_t n_tiles = (size.width + widest - 1) / widest;
    for (int64_t row = first; row < last; ++row) {
        const typename Form::Operand* window = bands + (row - first) * size.padded();
        for (int64_t tile = 0; tile < n_tiles; ++tile) {
            const int64_t begin = tile * size.width / n_tiles, end = (tile + 1) * size.width / n_tiles;
            const typename Form::Weight* own = weights;
            for (int64_t channel = 0; channel < n_written;) {
                const int n = tile_channels(n_written - channel);
                auto run = [&]<int R>() {
                    convolve_row<Form, R>(window, plane, size, own, n_bands, f, channel, row, begin, end);
                };
                switch (n) {
                    case 1: run.template operator()<1>(); break;
                    case 2: run.template operator()<2>(); break;
                    case 4: run.template operator()<4>(); break;
                    default: run.template operator()<MOST_CHANNELS>(); break;
                }
                own += n * n_bands * TAPS * TAPS;
                channel += n;
            }
        }
    }
}

// A band's part of the gradient of the weights from one channel read to R written: (row of taps, R, column of taps).
// activations: band of the channel read; gradients: bands of the R channels written; both of joined rows.
template <typename Form, int R>
inline void correlate(const typename Form::Operand* activations, const typename Form::Operand* gradients, int64_t plane,
                      int64_t n_rows, const Size& size, Maps<Form>* sums) {
    const int64_t row = size.padded();
    for (int i = 0; i < TAPS; ++i, sums += R * TAPS) {
        Maps<Form> own[R][TAPS];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
            for (int j = 0; j < TAPS; ++j) own[r][j] = sums[r * TAPS + j];
        for (int64_t y = 0; y < n_rows; y += Form::JOINED) {
            const typename Form::Operand* x = activations + (y + i) * row;
            const typename Form::Operand* g = gradients + (y + 1) * row + 1;
            for (int64_t column = 0; column < size.width; ++column) {
#pragma GCC unroll 8
                for (int r = 0; r < R; ++r) {
                    const typename Form::Operand gradient = g[r * plane + column];
#pragma GCC unroll 3
                    for (int j = 0; j < TAPS; ++j) Form::add_product(own[r][j], gradient, x[column + j]);
                }
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
            for (int j = 0; j < TAPS; ++j) sums[r * TAPS + j] = own[r][j];
    }
}

// BN and ReLU of the k-th channel that a layer reads, as a function of a vector.
template <typename T>
inline auto activation(const Layer<T>& layer, int64_t k) {
    return [factor = layer.factor[k], offset = layer.offset[k]](const Vector<T>& x) {
        return rectify<T>(factor * x + offset);
    };
}

}  // namespace

template <typename Form>
void forward(const Layer<typename Form::Number>& layer, const typename Form::Weight* arranged, const Size& size,
             const Maps<Form>* maps, Maps<Form>* written, Scratch<Form>& scratch) {
    const int64_t n_bands = count_joined<Form>(layer.n_read);
    const int64_t n_rows = band_rows<Form>(ACTIVATIONS_BYTES, n_bands, size);
    const int64_t plane = (n_rows + 2) * size.padded();
    scratch.resize(n_bands * plane);
    auto place_of = [&](int64_t k) { return k < layer.n_read ? &layer.places[layer.channels[k]] : nullptr; };
    auto keep = [&]<int R, int P>(const Maps<Form>(&sums)[R][P], int64_t channel, int64_t y, int64_t x) {
        keep_tile<typename Form::Number, R, P>(layer, sums, channel, y, x, written);
    };
    for (int64_t first = 0; first < size.height; first += n_rows) {
        const int64_t last = std::min(first + n_rows, size.height);
        for (int64_t k = 0; k < layer.n_read; k += Form::JOINED)
            fill_band<Form>(maps, place_of(k), activation(layer, k), place_of(k + Form::JOINED - 1),
                            activation(layer, std::min(k + Form::JOINED, layer.n_read) - 1),
                            scratch.data() + k / Form::JOINED * plane, first, last, size);
        convolve_bands<Form>(scratch.data(), n_rows, arranged, n_bands, layer.n_written, first, last, size, keep);
    }
}

template <typename Form>
void backward(const Layer<typename Form::Number>& layer, const typename Form::Weight* transposed, const Size& size,
              const Maps<Form>* maps, Maps<Form>* gradients, const Maps<Form>* written,
              const typename Form::Number* means, Maps<Form>* by_weight, Maps<Form>* by_activation,
              Scratch<Form>& scratch) {
    using T = typename Form::Number;
    const int64_t n_bands = count_joined<Form>(layer.n_written);
    const int64_t n_rows = band_rows<Form>(GRADIENT_BYTES, layer.n_written, size);
    const int64_t plane = (n_rows + 2) * size.padded();
    // Bands of joined channels, those of joined rows where these differ, and of the activations of one channel.
    const int64_t n_own = Form::JOINED > 1 ? layer.n_written : 0;
    scratch.resize((n_bands + n_own + 1) * plane);
    typename Form::Operand* by_rows = scratch.data() + (n_own ? n_bands : 0) * plane;
    typename Form::Operand* activations = scratch.data() + (n_bands + n_own) * plane;
    auto pass = [&]<int R, int P>(const Vector<T>(&sums)[R][P], int64_t channel, int64_t y, int64_t x) {
        hand_on<T, R, P>(layer, sums, channel, y, x, maps, gradients, means, by_activation);
    };
    auto same = [](const Vector<T>& gradient) { return gradient; };
    for (int64_t first = 0; first < size.height; first += n_rows) {
        const int64_t last = std::min(first + n_rows, size.height);
        for (int64_t channel = 0; channel < layer.n_written; ++channel) {
            const Place* place = layer.written + channel;
            const Place* next = channel + Form::JOINED <= layer.n_written ? place + Form::JOINED - 1 : nullptr;
            if (channel % Form::JOINED == 0)
                fill_band<Form>(written, place, same, next, same, scratch.data() + channel / Form::JOINED * plane, first,
                                last, size);
            if (n_own)
                fill_rows<Form>(written, *place, same, by_rows + channel * plane + size.padded(), first, last,
                                Form::JOINED, size);
        }
        Vector<T>* sums = by_weight;
        for (int64_t k = 0; k < layer.n_read; ++k) {
            fill_rows<Form>(maps, layer.places[layer.channels[k]], activation(layer, k), activations, first - 1,
                            last + 1, 1, size);
            for (int64_t channel = 0; channel < layer.n_written;) {
                const int n = tile_channels(layer.n_written - channel);
                const typename Form::Operand* own = by_rows + channel * plane;
                auto run = [&]<int R>() { correlate<Form, R>(activations, own, plane, last - first, size, sums); };
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
        convolve_bands<Form>(scratch.data(), n_rows, transposed, n_bands, layer.n_read, first, last, size, pass);
    }
}

#define SKIPSEARCH_PASSES(Form)                                                                                     \
    template void forward<Form>(const Layer<Form::Number>&, const Form::Weight*, const Size&, const Maps<Form>*,    \
                                Maps<Form>*, Scratch<Form>&);                                                       \
    template void backward<Form>(const Layer<Form::Number>&, const Form::Weight*, const Size&, const Maps<Form>*,   \
                                 Maps<Form>*, const Maps<Form>*, const Form::Number*, Maps<Form>*, Maps<Form>*,     \
                                 Scratch<Form>&)

SKIPSEARCH_PASSES(Exact<float>);
SKIPSEARCH_PASSES(Exact<double>);
#ifdef SKIPSEARCH_BFLOAT16
SKIPSEARCH_PASSES(Pairs);
#endif

}  // namespace skipsearch
