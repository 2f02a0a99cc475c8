// What CPUID's feature bits do not say: how a CPU family divides its ports.
#pragma once

namespace pqi {

// True if byte additions run beside u8 x s8 dot products, on ports that these leave idle: then Winograd's inner product pays, which takes
// two additions for each dot product that it saves. It is so on AMD from Zen 4 on (families 19h and 1Ah; older members of 19h lack the dot
// instruction and are never asked), measured on Zen 4 and by port count on Zen 5. On Intel CPUs additions and dot products share two ports.
bool CpuAddsBesideDots();

// True if two ports run 512-bit u8 x s8 dot products: 128 products a cycle instead of 64. CPUID has no bit for it, so known models are
// listed: Intel's servers, among them every CPU with AMX (measured on Granite Rapids and Ice Lake). Unknown ones are taken to have one
// port.
bool CpuHasTwoDotPorts();

}  // namespace pqi
