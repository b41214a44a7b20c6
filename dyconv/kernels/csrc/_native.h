/* What the compiled kernels share: lanes of single precision, and one copy of a loop for each kind of processor.

They are plain C without Python's headers, called through ctypes by `native.py`; where there is no compiler for them,
torch does the work. Sums keep their order whatever the number of threads. */

#include <stdint.h>
#include <string.h>

/* NO_WIDE_REGISTERS leaves the loops to the processor that the compiler is told of, which has no wide registers;
   NARROW_REGISTERS takes registers of four numbers besides, as processors that are no x86 have them. */
#ifdef NARROW_REGISTERS
#define NO_WIDE_REGISTERS
#endif
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__) && !defined(NO_WIDE_REGISTERS)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(NO_WIDE_REGISTERS)
#define HAVE_WIDE_REGISTERS
#define FOR_WIDE_REGISTERS __attribute__((target("arch=x86-64-v4")))
#endif
#define INLINE static inline __attribute__((always_inline))
#define AT(type, pointer) (*(type *)(pointer))

typedef float wide __attribute__((vector_size(64), aligned(4), may_alias));
/* A vector that fits a register of every processor that is still in use. Compilers keep larger ones in memory. With it:
   pixels, or rows of a gradient, whose sums lie in registers together, two vectors each, of 16 registers or of 32. */
#if defined(__x86_64__) && !defined(NARROW_REGISTERS)
#define USUAL_LANES 8
#define USUAL_MOST 6
#define USUAL_BESIDE 4
#else
#define USUAL_LANES 4
#define USUAL_MOST 10
#define USUAL_BESIDE 8
#endif
typedef float usual __attribute__((vector_size(4 * USUAL_LANES), aligned(4), may_alias));
typedef float narrow __attribute__((vector_size(16), aligned(4), may_alias));
typedef float single __attribute__((aligned(4), may_alias));

INLINE int64_t smaller(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

/* Compiles `call` for usual numbers of kernels, so that loops over them are unrolled, and once for any other. */
#define WITH_CONSTANT(kernels, call)                                                                                   \
    switch (kernels) {                                                                                                 \
    case 2: call(2); break;                                                                                            \
    case 4: call(4); break;                                                                                            \
    case 8: call(8); break;                                                                                            \
    default: call(kernels);                                                                                            \
    }

/* Whether a register holds sixteen numbers, and functions for such vectors were compiled. */
INLINE int has_wide_registers(void)
{
#ifdef HAVE_WIDE_REGISTERS
    return __builtin_cpu_supports("avx512f") != 0;
#else
    return 0;
#endif
}

/* Calls the function for wide vectors, or the one for usual ones. Wide ones are compiled where there are such registers
   alone: taken apart, they would make more code than all the rest. */
#ifdef HAVE_WIDE_REGISTERS
#define CALL_WIDE(is_wide, name, ...)                                                                                  \
    if (is_wide) name##_wide(__VA_ARGS__);                                                                             \
    else name##_usual(__VA_ARGS__)
#else
#define CALL_WIDE(is_wide, name, ...) (void)(is_wide), name##_usual(__VA_ARGS__)
#endif

/* The sizes of an attention branch, and the temperature of its softmax. With `planes` the pixels of a channel lie next
   to each other, else the channels of a pixel. */
typedef struct {
    int64_t images, pixels, channels, hidden, kernels, planes;
    float temperature;
} sizes;

/* Entries start[p] to start[p + 1] - 1 belong to position p of the result: each is a row (or column) of the kernel, and
   the row (or column) of the source that it meets; where all meet, these are evenly spaced. */
typedef struct {
    const int32_t *start, *tap, *source;
    int64_t size, source_size, taps;
} axis;

/* What `_evaluating.c` puts together; each stands with its own kind. */
void dyconv_attend(
    const sizes *of, const float *images, const float *squeeze, const float *squeeze_bias, const float *excite,
    const float *excite_bias, float *average, float *hidden, float *attention, int threads);
void dyconv_gather(
    const float *source, const float *kernel, const float *start, float *result, const axis *rows, const axis *columns,
    int64_t images, int64_t channels, int threads);
void dyconv_mix(
    const float *attention, const float *weight, int64_t weight_row, float *mixed, int64_t mixed_row, int64_t images,
    int64_t kernels, int64_t numbers, int threads);
