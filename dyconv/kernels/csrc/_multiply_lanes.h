/* Products of pixels with a tile of a kernel, for vectors of LANES numbers of type VECTOR, BESIDE pixels at a time;
included once for each. A row of the tile has WIDTH numbers. */

/* Adds what some rows of a mixed kernel bring to `pixels` pixels of `vectors` vectors; both are constants where this is
   called. Sums go on from the result, or begin at `start`, or at zero. */
INLINE void NAMED(multiply)(
    const float *source, int64_t from, const float *mixed, int64_t rows, float *result, int64_t to, const float *start,
    int goes_on, int64_t pixels, int64_t vectors)
{
    VECTOR sums[BESIDE][2];
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t v = 0; v < vectors; v++)
            sums[p][v] = goes_on ? AT(const VECTOR, result + p * to + v * LANES)
                       : start   ? AT(const VECTOR, start + v * LANES)
                                 : (VECTOR){0};
    for (int64_t r = 0; r < rows; r++) {
        VECTOR weight[2];
        for (int64_t v = 0; v < vectors; v++) weight[v] = AT(const VECTOR, mixed + r * WIDTH + v * LANES);
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t v = 0; v < vectors; v++) sums[p][v] += weight[v] * source[p * from + r];
    }
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t v = 0; v < vectors; v++) AT(VECTOR, result + p * to + v * LANES) = sums[p][v];
}

INLINE void NAMED(multiply_line)(
    const float *source, int64_t from, const float *mixed, int64_t rows, float *result, int64_t to, const float *start,
    int goes_on, int64_t pixels, int64_t vectors)
{
#define PIXELS(count) NAMED(multiply)(source, from, mixed, rows, result, to, start, goes_on, count, vectors)
    for (; pixels >= BESIDE; pixels -= BESIDE, source += BESIDE * from, result += BESIDE * to) PIXELS(BESIDE);
    switch (pixels) {
#if BESIDE > 4
    case 7: PIXELS(7); break;
    case 6: PIXELS(6); break;
    case 5: PIXELS(5); break;
    case 4: PIXELS(4); break;
#endif
    case 3: PIXELS(3); break;
    case 2: PIXELS(2); break;
    case 1: PIXELS(1); break;
    }
#undef PIXELS
}
