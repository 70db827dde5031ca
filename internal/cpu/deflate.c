//go:build native && cgo

// deflate.c - libdeflate's decoder of zlib streams. Its interface is three
// functions that have not changed since version 1.0, so no header is needed to
// build with it.

#define _GNU_SOURCE
#include "native.h"
#include <dlfcn.h>
#include <stdio.h>

static struct {
    void* lib;
    void* (*alloc)(void);
    int (*zlib)(void* decoder, const void* in, size_t in_size, void* out, size_t out_size,
                size_t* written);
} deflate;

const char* deflate_open(void)
{
    static const char* const names[] = {"libdeflate.so.0", NULL};
    static char text[600];
    deflate.lib = dl_open(names);
    if (!deflate.lib) {
        snprintf(text, sizeof text, "%s", dl_why());
        return text;
    }
    deflate.alloc = (__typeof__(deflate.alloc))dlsym(deflate.lib, "libdeflate_alloc_decompressor");
    deflate.zlib = (__typeof__(deflate.zlib))dlsym(deflate.lib, "libdeflate_zlib_decompress");
    return deflate.alloc && deflate.zlib
               ? NULL
               : "it lacks libdeflate_alloc_decompressor or libdeflate_zlib_decompress";
}

const char* deflate_path(void) { return dl_path(deflate.lib); }
void* deflate_decoder(void) { return deflate.alloc(); }

// 0 done, 1 damaged data, 3 more than out_size bytes (libdeflate's numbers).
int deflate_zlib(void* decoder, const void* in, size_t in_size, void* out, size_t out_size,
                 size_t* written)
{
    return deflate.zlib(decoder, in, in_size, out, out_size, written);
}
