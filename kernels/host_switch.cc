//go:build native && cgo && hostdev

// The switch between two fibers of the host build: void fidlab_host_switch(void** save, void* to)
// saves the callee-saved registers and the stack pointer in *save, then continues at to.
#if defined(__x86_64__)
__asm__(R"(
.text
.globl fidlab_host_switch
.hidden fidlab_host_switch
.type fidlab_host_switch, @function
fidlab_host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size fidlab_host_switch, .-fidlab_host_switch
)");
#else
#error "the host device switches fibers in x86-64 assembly; this is another machine"
#endif
