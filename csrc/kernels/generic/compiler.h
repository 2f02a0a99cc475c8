// What the loop nests ask of a compiler.
#pragma once

// Loops over an accumulator array must unroll completely: gcc otherwise keeps the array in memory, or copies it each iteration.
#define PQI_UNROLL _Pragma("GCC unroll 16")
// The compiler knows nothing about this pointer any more, so that a load through it is neither moved nor shared.
#define PQI_OPAQUE(pointer) asm volatile("" : "+r"(pointer))
// After the parameters of a lambda.
#define PQI_INLINE_LAMBDA __attribute__((always_inline))
#define PQI_INLINE inline __attribute__((always_inline))
#define PQI_NOINLINE __attribute__((noinline))
