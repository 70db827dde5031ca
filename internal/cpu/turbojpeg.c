//go:build native && cgo

// turbojpeg.c - TurboJPEG's decoder. A handle serves one thread at a time.

#define _GNU_SOURCE
#include "native.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <turbojpeg.h>

static struct {
    void* lib;
    __typeof__(&tjInitDecompress) init;
    __typeof__(&tjDecompressHeader3) header;
    __typeof__(&tjDecompress2) decompress;
    __typeof__(&tjGetErrorStr2) error;
    __typeof__(&tjGetErrorCode) code;
    __typeof__(&tjDestroy) destroy;
} tj;

const char* jpeg_open(void)
{
    static const char* const names[] = {"libturbojpeg.so.0", NULL};
    static char text[600];
    tj.lib = dl_open(names);
    if (!tj.lib) {
        snprintf(text, sizeof text, "%s", dl_why());
        return text;
    }
#define FIND(field, name)                                                                          \
    if (!(tj.field = (__typeof__(tj.field))dlsym(tj.lib, name)))                                   \
    return "it lacks the function " name
    FIND(init, "tjInitDecompress");
    FIND(header, "tjDecompressHeader3");
    FIND(decompress, "tjDecompress2");
    FIND(error, "tjGetErrorStr2");
    FIND(code, "tjGetErrorCode");
    FIND(destroy, "tjDestroy");
#undef FIND
    return NULL;
}

const char* jpeg_path(void) { return dl_path(tj.lib); }
void* jpeg_decoder(void) { return tj.init(); }
void jpeg_free(void* decoder) { tj.destroy(decoder); }
const char* jpeg_error(void* decoder) { return tj.error(decoder); }

int jpeg_header(void* decoder, const unsigned char* data, size_t size, int* width, int* height,
                int* channels)
{
    int sampling = 0, colours = 0;
    if (tj.header(decoder, data, size, width, height, &sampling, &colours)) return -1;
    *channels = colours == TJCS_GRAY ? 1 : colours == TJCS_CMYK || colours == TJCS_YCCK ? 4 : 3;
    return 0;
}

// Flags 0 mean the accurate inverse DCT and interpolated chroma, libjpeg's
// defaults and therefore Pillow's; the limit of 500 scans stops small files
// that take hours.
int jpeg_pixels(void* decoder, const unsigned char* data, size_t size, int width, int height,
                int channels, unsigned char* out)
{
    const int format = channels == 1 ? TJPF_GRAY : channels == 4 ? TJPF_CMYK : TJPF_RGB;
    if (!tj.decompress(decoder, data, size, out, width, width * channels, height, format,
                       TJFLAG_LIMITSCANS))
        return 0;
    return tj.code(decoder) == TJERR_WARNING ? 1 : -1;
}
