# A PVH guest that does nothing, and so never takes a request to suspend.
        .section .note.Xen, "a", @note
        .long   4, 4, 18                # XEN_ELFNOTE_PHYS32_ENTRY
        .asciz  "Xen"
        .long   entry
        .text
        .globl  entry
entry:  sti                             # Xen takes a halt without interrupts for a power-off
rest:   hlt
        jmp     rest
