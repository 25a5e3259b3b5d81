/* vector_units: compiles a loop for several vector units and chooses at run time. Used by rows.c and
 * softmax.c. DISPATCH(name, (parameters), (arguments)) makes name_any out of an inline function name_body. */
#pragma once

#define BODY static inline __attribute__((always_inline))
#if defined(__clang__)
#define AVX512 "avx512f,avx512dq"
#else
#define AVX512 "avx512f,avx512dq,prefer-vector-width=512"
#endif
#if defined(__x86_64__)
#define DISPATCH(name, params, args)                                              \
    __attribute__((target(AVX512))) static void name##_avx512 params              \
    {                                                                             \
        name##_body args;                                                         \
    }                                                                             \
    __attribute__((target("avx2,fma"))) static void name##_avx2 params            \
    {                                                                             \
        name##_body args;                                                         \
    }                                                                             \
    static void name##_any params                                                 \
    {                                                                             \
        if (__builtin_cpu_supports("avx512dq"))                                   \
            name##_avx512 args;                                                   \
        else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) \
            name##_avx2 args;                                                     \
        else                                                                      \
            name##_body args;                                                     \
    }
#else
#define DISPATCH(name, params, args) \
    static void name##_any params    \
    {                                \
        name##_body args;            \
    }
#endif
