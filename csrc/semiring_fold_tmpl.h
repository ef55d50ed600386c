/* The body of fold_add and fold_mul of csrc/semiring_tmpl.h, which defines, and undefines here:
 *
 *   FOLD, V_FOLD   the operation, of lanes and of vectors
 *   NEUTRAL        what every lane starts at
 *   IN_ORDER       1: from left to right
 *
 * The order of the lanes is written down at fold_add in csrc/semiring.h. */
#ifdef FOLD
(void)self;
T lane[FOLD_LANES];
uint64_t i = 0;
for (unsigned j = 0; j < FOLD_LANES; j++) lane[j] = NEUTRAL;
if (IN_ORDER) {
    for (; i < lanes; i++) lane[0] = FOLD(lane[0], LANES_OF(x)[i]);
} else {
#ifdef V
    vec low = v_load((const uint8_t *)lane), high = low;
    for (; i + FOLD_LANES <= lanes; i += FOLD_LANES) {
        low = V_FOLD(low, v_load(x + i * sizeof(T)));
        high = V_FOLD(high, v_load(x + i * sizeof(T) + 32));
    }
    v_store((uint8_t *)lane, low);
    v_store((uint8_t *)lane + 32, high);
#endif
    for (; i + FOLD_LANES <= lanes; i += FOLD_LANES)
        for (unsigned j = 0; j < FOLD_LANES; j++) lane[j] = FOLD(lane[j], LANES_OF(x)[i + j]);
    for (unsigned j = 0; i < lanes; i++, j++) lane[j] = FOLD(lane[j], LANES_OF(x)[i]);
    for (unsigned half = FOLD_LANES / 2; half != 0; half /= 2)
        for (unsigned j = 0; j < half; j++) lane[j] = FOLD(lane[j], lane[j + half]);
}
*out = (mmsb_lane){.i64 = 0};
out->TYPE = FINAL(lane[0]);

#undef FOLD
#undef V_FOLD
#undef NEUTRAL
#undef IN_ORDER
#endif
