// func.h - the numbers of Func in func.go.
#pragma once

enum {
    FUNC_IDENTITY,
    FUNC_RELU,
    FUNC_LEAKY,
    FUNC_SILU,
    FUNC_GELU,
    FUNC_GELU_TANH,
    FUNC_SIGMOID,
    FUNC_TANH,
    FUNC_SOFTPLUS,
    FUNC_EXP,
    FUNC_LOG,
    FUNC_SQUARE,
    FUNC_ABS,
    FUNC_CLIP,
    FUNC_INVERSE,
    FUNC_VECTORS, // those above are in func.c
};
