// What the loop nests ask of a compiler beyond the language.
#pragma once

// Loops over an accumulator array must unroll completely: gcc otherwise keeps the array in memory, or copies it each iteration.
#define PQI_UNROLL _Pragma("GCC unroll 16")
// After this the compiler knows nothing about the pointer, so that it neither moves a load through it nor shares one.
#define PQI_OPAQUE(pointer) asm volatile("" : "+r"(pointer))
// Stands after the parameters of a lambda that has to be inlined.
#define PQI_INLINE_LAMBDA __attribute__((always_inline))
#define PQI_INLINE inline __attribute__((always_inline))
#define PQI_NOINLINE __attribute__((noinline))
