// What CPUID's feature bits do not say: how a CPU family divides its ports.
#pragma once

namespace pqi {

// Byte additions run beside u8 x s8 dot products, on ports that these leave idle, so Winograd's inner product (two additions for one dot
// product saved) pays. AMD from Zen 4 on: families 19h and 1Ah (older members of 19h lack the dot instruction, so they are never asked).
// Measured on Zen 4, by port count on Zen 5. Not Intel: additions and dot products share its two vector ports.
bool CpuAddsBesideDots();

// Two ports run 512-bit u8 x s8 dot products: 128 products a cycle instead of 64. CPUID does not tell, models do: Intel's servers, every
// CPU with AMX among them (measured on Granite Rapids and Ice Lake). Others are planned for as if they had one.
bool CpuHasTwoDotPorts();

}  // namespace pqi
