#include "kernels.h"

#include "kernels_isa.h"

void mmsb_kernels_init(mmsb_kernels *table, uint32_t features) {
    *table = (mmsb_kernels){
        .size_bytes = sizeof *table,
        .features = features,
        .delta_diff = mmsb_delta_diff_scalar,
        .delta_apply = mmsb_delta_apply_scalar,
        .delta_merge = mmsb_delta_merge_scalar,
        .delta_inverse = mmsb_delta_inverse_scalar,
        .crc32c = mmsb_crc32c_scalar,
    };
    if (features & MMSB_CPU_SSE42) table->crc32c = mmsb_crc32c_sse42;
    if (features & MMSB_CPU_SSE42 && features & MMSB_CPU_PCLMUL) table->crc32c = mmsb_crc32c_pclmul;
    if (features & MMSB_CPU_AVX2) table->delta_diff = mmsb_delta_diff_avx2;
    if (features & MMSB_CPU_AVX512) {
        table->delta_diff = mmsb_delta_diff_avx512;
        table->delta_apply = mmsb_delta_apply_avx512;
    }
}
