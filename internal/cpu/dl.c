//go:build native && cgo

// dl.c - dlopen with the file's path and a reason for failure.

#define _GNU_SOURCE
#include "native.h"
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>

static char why[512];

void* dl_open(const char* const* names)
{
    why[0] = 0;
    for (; *names; names++) {
        void* lib = dlopen(*names, RTLD_NOW | RTLD_LOCAL);
        if (lib) return lib;
        const char* e = dlerror();
        if (!why[0])
            snprintf(why, sizeof why, "%s", e ? e : *names); // the first name is the usual one
    }
    return NULL;
}

const char* dl_why(void) { return why; }

const char* dl_path(void* lib)
{
    struct link_map* map = NULL;
    if (!lib || dlinfo(lib, RTLD_DI_LINKMAP, &map) || !map || !map->l_name) return "";
    return map->l_name;
}
