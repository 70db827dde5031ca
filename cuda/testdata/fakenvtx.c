//go:build native && cgo

// A pretended profiler for the test of Range: it prints what NVTX tells it.

#include <stdint.h>
#include <stdio.h>

typedef void (*function)(void);
typedef struct {
    size_t size;
    int (*module_table)(int, function***, unsigned*);
} callbacks;
typedef struct {
    size_t size;
    uint32_t version, reserved;
    void (*injected_version)(uint32_t);
} version_info;

static uint64_t next = 100;
static uint64_t start(const char* name)
{
    printf("start %s %llu\n", name, (unsigned long long)++next);
    fflush(stdout);
    return next;
}
static void end(uint64_t id)
{
    printf("end %llu\n", (unsigned long long)id);
    fflush(stdout);
}

int InitializeInjectionNvtx2(const void* (*export_table)(uint32_t))
{
    const callbacks* c = export_table(1);
    const version_info* v = export_table(3);
    if (c == NULL || v == NULL || c->size < sizeof *c || v->size < sizeof *v || v->version != 3 ||
        export_table(2) != NULL) {
        return 0;
    }
    v->injected_version(3);
    static const unsigned sizes[] = {0, 16, 9, 15, 7, 16, 7};
    for (int m = 1; m < 7; m++) {
        function** t;
        unsigned n;
        if (!c->module_table(m, &t, &n) || n != sizes[m] || t[0] != NULL) {
            return 0;
        }
        for (unsigned i = 1; i < n; i++) { // as a real one does: all that it knows
            *t[i] = NULL;
        }
        if (m == 1) {
            *t[5] = (function)start;
            *t[7] = (function)end;
        }
    }
    function** t;
    unsigned n;
    return !c->module_table(7, &t, &n);
}
