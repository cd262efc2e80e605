// The forms in which the products of a convolution are computed: exactly as the maps are, or from bfloat16.
//
// A form joins JOINED vectors of a map into one operand, whose products with a weight, or with another operand, are added
// up: JOINED channels of a convolution, JOINED rows of a correlation. Sums are vectors of the maps' own type.

#pragma once

#include <cstring>

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
#include <immintrin.h>
#define SKIPSEARCH_BFLOAT16
#endif

#include "layer_kernels.h"

namespace skipsearch {

#ifdef SKIPSEARCH_BFLOAT16
constexpr bool HAS_BFLOAT16 = true;
#else
constexpr bool HAS_BFLOAT16 = false;
#endif

template <typename T>
struct Exact {
    using Number = T;            // of maps, statistics and sums
    using Operand = Vector<T>;   // of a band
    using Weight = T;            // as it is arranged: of JOINED channels read
    static constexpr int JOINED = 1;

    static Operand join_channels(const Vector<T>& own, const Vector<T>&) { return own; }
    static Operand join_rows(const Vector<T>& own, const Vector<T>&) { return own; }
    static Weight join_weights(T own, T) { return own; }
    static void add_product(Vector<T>& sum, Weight weight, const Operand& x) { sum += weight * x; }
    static void add_product(Vector<T>& sum, const Operand& x, const Operand& y) { sum += x * y; }
    static T add_lanes(const Vector<T>& sum) { return skipsearch::add_lanes<T>(sum); }
};

#ifdef SKIPSEARCH_BFLOAT16
// Pairs of bfloat16, rounded to nearest even; an instruction adds the products of LANES pairs to float32 sums.
struct Pairs {
    using Number = float;
    using Operand = __m512bh;
    using Weight = int32_t;
    static constexpr int JOINED = 2;

    // A lane has the two channels of one image.
    static Operand join_channels(const Vector<float>& first, const Vector<float>& second) {
        const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                               21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        return (__m512bh)_mm512_permutexvar_epi16(order, (__m512i)join_rows(first, second));
    }

    // Halves have one row each: which products share a lane does not matter, since lanes are added up in the end.
    static Operand join_rows(const Vector<float>& first, const Vector<float>& second) {
        return _mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
    }

    static Weight join_weights(float first, float second) { return round(first) | round(second) << 16; }

    static void add_product(Vector<float>& sum, Weight weight, const Operand& x) {
        sum = (Vector<float>)_mm512_dpbf16_ps((__m512)sum, x, (__m512bh)_mm512_set1_epi32(weight));
    }
    static void add_product(Vector<float>& sum, const Operand& x, const Operand& y) {
        sum = (Vector<float>)_mm512_dpbf16_ps((__m512)sum, x, y);
    }
    static float add_lanes(const Vector<float>& sum) { return _mm512_reduce_add_ps((__m512)sum); }

   private:
    // The upper half of a float32's bits; a NaN stays one.
    static uint32_t round(float number) {
        uint32_t bits;
        std::memcpy(&bits, &number, sizeof bits);
        return number != number ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    }
};
#endif

}  // namespace skipsearch
