// The primitives of an ISA: everything that the loop nests of generic/ ask of it.
//
// A new ISA is a struct S of static functions in <architecture>/<name>/simd.h that offers the names below, its own or inherited from
// another ISA's struct. Each row gives a name, its signature and its meaning, and the compiler prints the row of a name that S lacks. The
// last groups are for ISAs that have a use for them.
//
// A vector is kLanes numbers of 32 bits, or 2 * kLanes of 16 bits, or kBytes bytes. The last argument of a load or store, `All` or a mask,
// says whether it is about all lanes or about the first ones. Memory beyond the first ones is neither read nor written, and their lanes are
// loaded as 0. Pointers need no alignment unless a row asks for it. Integer arithmetic wraps. Each operation on floats rounds
// once, to the nearest number and between two to the even one, treats subnormal numbers like others, and is never contracted with another
// (docs/numerics.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/contract/tile.h"

namespace pqi::kernels {
namespace {

// gcc warns that the alignment of vector types is no part of a signature, which is no loss here.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"

// Whether use(Primitives<S>(), arguments...) compiles and gives what the signature says.
template <class S>
struct Primitives {
  using Struct = S;
};
template <class S, class Use, class Result, class... Arguments>
constexpr bool Offers(Use, Result (*)(Arguments...)) {
  return std::is_invocable_r_v<Result, Use, Primitives<S>, Arguments...>;
}

// Groups that an ISA may leave out. It has one if it has its primitives, own or inherited, and if they fit its product. All sums of
// products lie in rows of kU8S8.nr, whichever kernel made them.
template <class S, class = void>
struct HasInnerProduct : std::false_type {};
template <class S>
struct HasInnerProduct<S, std::void_t<decltype(S::kInnerProduct)>>
    : std::bool_constant<S::kPhases == 1 && S::kInnerProduct.nr == S::kU8S8.nr> {};
template <class S, class = void>
struct HasDeferred : std::false_type {};
template <class S>
struct HasDeferred<S, std::void_t<decltype(S::kDeferred)>> : std::bool_constant<(S::kPhases > 1) && S::kDeferred.nr == S::kU8S8.nr> {};
template <class S, class = void>
struct HasWinograd : std::false_type {};
template <class S>
struct HasWinograd<S, std::void_t<decltype(sizeof(&S::SubBytes))>> : std::bool_constant<S::kU8S8.nr == 2 * S::kLanes> {};
template <class S, class = void>
struct HasNarrow : std::false_type {};
template <class S>
struct HasNarrow<S, std::void_t<decltype(S::kNarrowRows)>> : std::bool_constant<S::kOffset == 0> {};

template <class S, class = void>
struct HasSparse : std::false_type {};
template <class S>
struct HasSparse<S, std::void_t<decltype(S::kSparseVectors)>> : std::true_type {};

// Rows of the list. `list`: template arguments to try the name with.
#define PQI_LIST(...) __VA_ARGS__
#define PQI_OFFERS(signature, message, ...)                                                    \
  {                                                                                            \
    constexpr bool offered = Offers<S>(__VA_ARGS__, static_cast<PQI_LIST signature>(nullptr)); \
    static_assert(offered, message);                                                           \
  }
#define PQI_TYPE(name, meaning)                                           \
  PQI_OFFERS((void* (*)()), "the type S::" #name " is missing: " meaning, \
             [](auto s) -> typename decltype(s)::Struct::name* { return nullptr; })
#define PQI_CONSTANT(kind, name, meaning)                                             \
  PQI_OFFERS((kind(*)()), "the constant " #kind " S::" #name " is missing: " meaning, \
             [](auto s) -> decltype(decltype(s)::Struct::name) { return decltype(s)::Struct::name; })
#define PQI_CALL(name, signature, meaning, ...)                                                                      \
  PQI_OFFERS((std::add_pointer_t<signature>), "the function S::" #name ", " #signature ", is missing: " meaning,     \
             [](auto s, auto&&... x) -> decltype(decltype(s)::Struct::__VA_ARGS__(static_cast<decltype(x)>(x)...)) { \
               return decltype(s)::Struct::__VA_ARGS__(static_cast<decltype(x)>(x)...);                              \
             })
#define PQI_FUNCTION(name, signature, meaning) PQI_CALL(name, signature, meaning, name)
#define PQI_TEMPLATE(name, list, signature, meaning) PQI_CALL(name, signature, meaning, template name<PQI_LIST list>)

// clang-format off
template <class S>
constexpr bool OffersColumns();
template <class S>
constexpr bool OffersMatrix();

template <class S>
constexpr bool OffersPrimitives() {
  // Types and sizes.
  PQI_TYPE(Int, "a vector of integers, or of 16-bit numbers or bytes")
  PQI_TYPE(Float, "a vector of kLanes floats")
  PQI_TYPE(All, "an empty struct: all lanes")
  PQI_TYPE(ByteMask, "the first bytes of a vector or of a piece of one; may be the type that First gives")
  using Int = typename S::Int;
  using Float = typename S::Float;
  using All = typename S::All;
  using ByteMask = typename S::ByteMask;
  PQI_CONSTANT(int, kLanes, "lanes of 32 bits: 4, 8 or 16")
  PQI_CONSTANT(int, kBytes, "4 * kLanes")
  using Mask = decltype(S::First(size_t{1}));
  PQI_FUNCTION(First, Mask(size_t), "the first n lanes, 0 < n < kLanes, in a type of the ISA's choice")
  PQI_FUNCTION(FirstBytes, ByteMask(size_t), "the first n bytes, n < kBytes")

  // Tiles (tile.h). The registers of an ISA bound their shapes: mr * nr / kLanes accumulators, the weights of a step, an activation.
  PQI_CONSTANT(TileShape, kU8S8, "rows, channels (1, 2 or 4 vectors) and k-values (4) of the u8 x s8 tile")
  PQI_CONSTANT(TileShape, kF32, "rows, channels (1, 2 or 4 vectors) and k-values (1) of the float tile")

  // Loads and stores.
  PQI_FUNCTION(LoadInt, Int(const int32_t*), "all lanes")
  PQI_FUNCTION(LoadInt, Int(const int32_t*, Mask), "the first lanes")
  PQI_FUNCTION(StoreInt, void(int32_t*, Int), "all lanes")
  PQI_FUNCTION(StoreInt, void(int32_t*, Int, Mask), "the first lanes")
  PQI_FUNCTION(LoadFloat, Float(const float*), "all lanes")
  PQI_FUNCTION(LoadFloat, Float(const float*, Mask), "the first lanes")
  PQI_FUNCTION(StoreFloat, void(float*, Float), "all lanes")
  PQI_FUNCTION(StoreFloat, void(float*, Float, Mask), "the first lanes")
  PQI_FUNCTION(LoadU8, Int(const uint8_t*, All), "kLanes bytes, each to a lane 0..255")
  PQI_FUNCTION(LoadU8, Int(const uint8_t*, Mask), "the first lanes from as many bytes")
  PQI_FUNCTION(LoadS8, Int(const int8_t*), "kLanes bytes, each to a lane -128..127")
  PQI_FUNCTION(StoreU8, void(uint8_t*, Int, All), "kLanes bytes from lanes 0..255")
  PQI_FUNCTION(StoreU8, void(uint8_t*, Int, Mask), "as many bytes as there are first lanes, from lanes 0..255")
  PQI_FUNCTION(LoadPanel, Int(const int8_t*), "kBytes bytes of a panel; the address is a multiple of kBytes")

  // Arithmetic of integers.
  PQI_FUNCTION(SetInt, Int(int32_t), "a number in all lanes")
  PQI_FUNCTION(SetShort, Int(int32_t), "the lower 16 bits in all lanes of 16 bits")
  PQI_FUNCTION(SetBytes, Int(int8_t), "a byte in all bytes")
  PQI_FUNCTION(AddInt, Int(Int, Int), "a + b")
  PQI_FUNCTION(SubInt, Int(Int, Int), "a - b")
  PQI_FUNCTION(MulInt, Int(Int, Int), "a * b")
  PQI_FUNCTION(MulSmall, Int(Int, Int), "a * b, a in 0..255 and b in -128..127")
  PQI_TEMPLATE(ShiftLeft, (1), Int(Int), "ShiftLeft<n>(a): a * 2^n")
  PQI_TEMPLATE(ShiftRight, (1), Int(Int), "ShiftRight<n>(a): a / 2^n, rounded down")

  // The product of u8 and s8. For each lane, the Dot of both sides' parts adds, over kPhases parts, the four products of a byte of x less
  // kOffset and the byte of w that it meets. Sums are exact modulo 2^32: nothing saturates on the way.
  PQI_CONSTANT(int, kPhases, "1 where one instruction makes the four products of a lane, or 2")
  PQI_CONSTANT(int32_t, kOffset, "TileSet::u8s8_offset: 0, or 128 where both sides of the instruction are signed")
  PQI_FUNCTION(PhaseWeights, Int(Int, int), "(w, part): what Dot takes of weights")
  PQI_FUNCTION(PhaseActivations, Int(Int, int), "(x, part): what Dot takes of activations")
  PQI_FUNCTION(Dot, Int(Int, Int, Int), "(sums, x, w): sums plus products, of what the two functions before gave")
  PQI_CONSTANT(int, kPairsRows, "rows of the tile that adds pairs of products in 16 bits (TileU8S8Pairs); 0: none, Dot is as fast")
  PQI_TYPE(Matrix, "void, or the matrix registers that take the place of Dot, see below")

  // The end of epilogues (epilogue_registers.h).
  PQI_FUNCTION(PackBytes, Int(Int, Int, Int, Int, Int, Int),
      "(a, b, c, d, zero_point, top): the lanes of a, then b, c, d, saturated to 16 bits, plus zero_point (16 bits, saturating), "
      "saturated to bytes 0..255, of each the smaller one of it and top (bytes)")
  PQI_TEMPLATE(StorePiece, (2 * S::kLanes), void(uint8_t*, Int, int, All),
      "StorePiece<n>(p, v, i, lanes): bytes i * n to i * n + n - 1 of v, n = kLanes, 2 * kLanes or 4 * kLanes as tiles have vectors")
  PQI_TEMPLATE(StorePiece, (2 * S::kLanes), void(uint8_t*, Int, int, ByteMask), "the first bytes of that piece")

  // Arithmetic of floats.
  PQI_FUNCTION(SetFloat, Float(float), "a number in all lanes")
  PQI_FUNCTION(AddF, Float(Float, Float), "a + b")
  PQI_FUNCTION(SubF, Float(Float, Float), "a - b")
  PQI_FUNCTION(MulF, Float(Float, Float), "a * b")
  PQI_FUNCTION(DivF, Float(Float, Float), "a / b")
  PQI_FUNCTION(SqrtF, Float(Float), "the square root")
  PQI_FUNCTION(Fma, Float(Float, Float, Float), "a * b + c, rounded once")
  PQI_FUNCTION(MaxF, Float(Float, Float), "a > b ? a : b, so b where one is NaN or both are zeros")
  PQI_FUNCTION(MinF, Float(Float, Float), "a < b ? a : b, so b where one is NaN or both are zeros")
  PQI_FUNCTION(AbsF, Float(Float), "a without its sign, of NaN as well")
  PQI_FUNCTION(CopySign, Float(Float, Float), "(magnitude, sign): the absolute value of the one with the sign bit of the other")
  PQI_FUNCTION(SelectGreater, Float(Float, Float, Float, Float), "a > b ? x : y")
  PQI_FUNCTION(SelectNan, Float(Float, Float, Float), "a is NaN ? x : y")
  PQI_FUNCTION(FloatBits, Int(Float), "the bits of the floats")
  PQI_FUNCTION(BitsFloat, Float(Int), "floats of these bits")
  PQI_FUNCTION(PowerOfTwo, Float(Int), "2^n, n in -126..127")
  PQI_FUNCTION(ToFloat, Float(Int), "rounded to the nearest float")
  PQI_FUNCTION(ToIntNearest, Int(Float), "rounded to the nearest integer, which fits 32 bits; NaN gives 0")
  PQI_FUNCTION(ToIntPlain, Int(Float), "ToIntNearest where the caller has proved that there is no NaN")

  // Whole bytes, for elementwise kernels (elementwise.h).
  PQI_TYPE(ByteTable,
      "void where single loads are as fast, or a table of 256 bytes in registers: made of a pointer, LookUp(x, y) gives y[i] = "
      "table[x[i]] for kBytes bytes")
  PQI_FUNCTION(MaxBytes, void(const uint8_t* const*, size_t, size_t, uint8_t*),
      "(x, count, at, y): y[i] = the largest of x[r][at + i], r < count, for kBytes bytes; y may be x[0] + at")
  PQI_FUNCTION(Interleave3, void(const uint8_t*, const uint8_t*, const uint8_t*, uint8_t*),
      "(a, b, c, out): 16 bytes of each, which take turns")
  if constexpr (!std::is_void_v<typename S::ByteTable>) {
    constexpr bool table = std::is_constructible_v<typename S::ByteTable, const uint8_t*>;
    static_assert(table, "S::ByteTable is not made of a pointer to 256 bytes");
  }

  // Winograd's transforms (winograd_filters.h), an optional group, and what low-bit products and packed codes share with them.
  if constexpr (HasWinograd<S>::value || HasInnerProduct<S>::value || HasNarrow<S>::value || HasSparse<S>::value) {
    PQI_FUNCTION(AddBytes, Int(Int, Int), "a + b of each byte")
    PQI_FUNCTION(SubBytes, Int(Int, Int), "a - b of each byte")
    PQI_FUNCTION(LoadBytes, Int(const uint8_t*), "kBytes bytes")
    PQI_FUNCTION(LoadBytes, Int(const uint8_t*, uint32_t), "the first n bytes, 0 < n < kBytes, and 0 above")
    PQI_FUNCTION(StoreBytes, void(uint8_t*, Int), "kBytes bytes; the address is a multiple of kBytes")
  }
  // Products by pairs, for TileU8S8Pairs and for packed codes where there is no Dot of one part.
  if constexpr (S::kPairsRows > 0 || (HasNarrow<S>::value && S::kPhases > 1)) {
    PQI_FUNCTION(DotPairs, Int(Int, Int, Int),
        "(sums, x, w): sums plus the four products of each lane, bytes 0 and 1 and bytes 2 and 3 added in 16 bits, which the caller has "
        "proved to be enough")
  }
  // Deferred sums (low_bit.h), an optional group.
  if constexpr (HasDeferred<S>::value) {
    PQI_CONSTANT(TileShape, kDeferred, "the shape of its tile; nr is that of kU8S8")
    PQI_FUNCTION(MulPairs, Int(Int, Int), "(x, w): u8 times s8, neighbours added in 16 bits, which the caller has proved to be enough")
    PQI_FUNCTION(AddShorts, Int(Int, Int), "a + b of each 16 bits")
    PQI_FUNCTION(WidenPairs, Int(Int), "for each lane, the sum of its two numbers of 16 bits")
  }
  // Sums of sparse convolutions (sparse.h), an optional group.
  if constexpr (HasSparse<S>::value) {
    PQI_CONSTANT(int, kSparseVectors, "vectors of bytes that a row of sums may have: registers are theirs but for three")
    PQI_CONSTANT(int, kSparseWideVectors, "vectors of positions that a row may have where each takes two registers")
    PQI_FUNCTION(AddShorts, Int(Int, Int), "a + b of each 16 bits")
    PQI_FUNCTION(SubShorts, Int(Int, Int), "a - b of each 16 bits")
    PQI_FUNCTION(EvenBytes, Int(Int), "bytes 0, 2, 4, ... in 16 bits each")
    PQI_FUNCTION(OddBytes, Int(Int), "bytes 1, 3, 5, ... in 16 bits each")
    PQI_FUNCTION(PackQuads, Int(Int, Int, Int, Int, Int, Int), "(a, b, c, d, zero_point, top): as PackBytes, but lanes take turns")
    PQI_TEMPLATE(QuadBytes, (3), Int(Int), "QuadBytes<i>(v): byte i of each lane, 0..255")
    PQI_CONSTANT(int, kTransposed, "the most channels that the next two exchange with positions: 16 or 32")
    PQI_TEMPLATE(PixelsToPlanes, (16), void(const uint8_t* const*, size_t, uint8_t*, size_t),
        "PixelsToPlanes<n>(rows, at, out, stride): out[i * stride + r] = rows[r][at + i] for i < n and r < 16")
    PQI_TEMPLATE(PlanesToPixels, (16), void(const uint8_t* const*, size_t, uint8_t*, size_t),
        "PlanesToPixels<n>(rows, at, out, stride): out[i * stride + r] = rows[r][at + i] for i < 16 and r < n")
    PQI_TEMPLATE(TransposeShorts, (true), void(const uint8_t*, size_t, const int32_t*, int32_t*, size_t),
        "TransposeShorts<kStart>(p, stride, start, out, out_stride): with x[c][j] the signed number of 16 bits at p + c * stride + 2 * j, "
        "c < 8 and j < 16, out[j * out_stride + c] = start[c] + x[c][j], or without kStart grows by x[c][j]")
  }
  // Inner products (low_bit.h), an optional group, and the row terms that go with them.
  if constexpr (HasInnerProduct<S>::value) {
    PQI_CONSTANT(TileShape, kInnerProduct, "the shape of its tile; nr is that of kU8S8")
    PQI_FUNCTION(AddPairs, Int(Int, Int, Int),
        "(sums, a, b): with x0 the bytes 0..3 and x1 the bytes 4..7 of eight bytes, the four products x0 * (x1 - 128), u8 times s8, of "
        "a's eight to the even lane, of b's to the odd lane")
    PQI_FUNCTION(SumPairs, Int(const Int (&)[S::kLanes / 2]), "lane 2i: the sum of v[i]'s even lanes; lane 2i + 1: that of its odd lanes")
  }
  // Codes of 2 and 4 bits (narrow.h), an optional group.
  if constexpr (HasNarrow<S>::value) {
    PQI_CONSTANT(int, kNarrowRows, "rows at most of the tile that unpacks codes in registers")
    PQI_CONSTANT(int, kNarrowUnpackedRows, "rows at most of the tile over codes that were unpacked before")
    PQI_TEMPLATE(HighCode, (4, 1), Int(Int),
        "HighCode<bits, f>(v): of each byte, bits f * bits and up, as many as a code has, at its upper end; 0 below")
    PQI_TEMPLATE(SignedCode, (4, 1), Int(Int), "SignedCode<bits, f>(v): the code that HighCode takes, as a signed byte")
  }
  // Matrix registers, an optional group.
  if constexpr (!std::is_void_v<typename S::Matrix>) {
    static_assert(S::kLanes == 16 && OffersMatrix<typename S::Matrix>(), "matrix registers need vectors of 16 lanes");
  }
  // Columns of pixels.
  static_assert(OffersColumns<S>(), "");
  return true;
}

// Depthwise convolutions along image rows (depthwise_columns.h). A register of a column holds, in each dword lane, the pixels of one
// channel in up to four image lines. Vector j of Q vectors of channels holds, in its piece L of 128 bits, the four channels from
// (L * Q + j) * 4 on.
template <class S>
constexpr bool OffersColumns() {
  PQI_CONSTANT(int, kColumnVectors, "Q of 3x3 windows, a power of two; narrower blocks have a half, a quarter, ... of it")
  PQI_CONSTANT(int, kColumnOutputs,
      "rows of outputs from one column of registers: 1, or 2 where a dword of weights may move up by a byte")
  PQI_CONSTANT(int, kRowsBeside, "image rows of few channels that a block may hold beside each other: 1, or 4, and then also 2")
  PQI_FUNCTION(ColumnPhases, int(int), "constexpr: the registers that so many image lines of one vector of channels take")
  constexpr int Q = S::kColumnVectors, kLines = 3, kPhases = S::ColumnPhases(kLines);
  using Int = typename S::Int;
  using All = typename S::All;
  using ByteMask = typename S::ByteMask;
  using Line = decltype(S::template Line<Q>(static_cast<const uint8_t*>(nullptr), All()));
  PQI_TEMPLATE(Line, (Q), Line(const uint8_t*, ByteMask),
      "Line<Q>(p, lanes): Q * kLanes bytes of an image line, in a type of the ISA's choice")
  PQI_TEMPLATE(Columns, (Q), void(const Line (&)[kLines], Int (&)[kPhases][Q]),
      "Columns<Q>(lines, out): the pixels of the lines, u8, to registers")
  PQI_TEMPLATE(WeightColumns, (Q, kLines), void(const int8_t (*)[Q * S::kLanes], Int (&)[kPhases][Q]),
      "WeightColumns<Q, kLines>(w, out): kLines lines of weights, s8, to registers in the same order")
  PQI_FUNCTION(ColumnDot, Int(Int, Int, Int), "(sums, column, weights): sums plus the products of each lane's pixels and weights, exact")
  PQI_TEMPLATE(StoreColumn, (Q), void(uint8_t*, const Int (&)[Q], Int, Int, All),
      "StoreColumn<Q>(p, v, zero_point, top, lanes): packs as PackBytes does, puts the channels back in order and stores Q * kLanes "
      "bytes")
  PQI_TEMPLATE(StoreColumn, (Q), void(uint8_t*, const Int (&)[Q], Int, Int, ByteMask), "StoreColumn for the first bytes")
  if constexpr (S::kRowsBeside > 1) {
    [[maybe_unused]] constexpr auto at = [](int) { return static_cast<const uint8_t*>(nullptr); };
    using At = decltype(at);
    PQI_TEMPLATE(Beside, (2), Line(At, ByteMask),
        "Beside<kRows>(at, lanes): Q * kLanes / kRows bytes from at(r) on for each of kRows = 2 or 4 rows r, as a Line")
    PQI_TEMPLATE(StoreBeside, (2), void(uint8_t*, size_t, const Int (&)[Q], Int, Int, ByteMask),
        "StoreBeside<kRows>(p, stride, v, zero_point, top, lanes): StoreColumn of kRows rows, `stride` bytes apart")
  }
  return true;
}

// The matrix registers of an ISA (matrix_tile.h, matrix_band.h): eight, of 16 rows of 64 bytes each. S: its Matrix.
template <class S>
constexpr bool OffersMatrix() {
  PQI_FUNCTION(Begin, void(), "of a Matrix: before all use on a thread, with all registers at full size")
  PQI_FUNCTION(BeginPieces, void(uint32_t), "of a Matrix: Begin with rows of n bytes in registers 4 and 5, and n / 4 rows in 6 and 7")
  PQI_FUNCTION(End, void(), "of a Matrix: after all use, back to the state in which other code finds a thread")
  PQI_TEMPLATE(Load, (0), void(const void*, ptrdiff_t), "of a Matrix: Load<r>(p, stride): rows of register r, `stride` bytes apart")
  PQI_TEMPLATE(Store, (0), void(void*, ptrdiff_t), "of a Matrix: Store<r>(p, stride): rows of register r, `stride` bytes apart")
  PQI_TEMPLATE(Zero, (0), void(), "of a Matrix: Zero<r>(): register r becomes 0")
  PQI_TEMPLATE(Dot, (0, 4, 6), void(),
      "of a Matrix: Dot<c, a, b>(): 32-bit sum j of row i of c grows by the products of row i of a, u8, and bytes 4j to 4j + 3 of every "
      "row of b, s8; modulo 2^32")
  return true;
}
// clang-format on

#pragma GCC diagnostic pop

}  // namespace
}  // namespace pqi::kernels
