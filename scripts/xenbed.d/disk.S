# The first sector of the guests' disk: a guest of 512 bytes, without PV drivers, that counts on the
# first serial port twice a second and knows a nonce, the processor's time when it began.
.intel_syntax noprefix
.code16
        cli
        xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     sp, 0x7c00
        rdtsc
        mov     ebp, eax                # the nonce
        xor     edi, edi                # the tick
        sti
again:  inc     edi
        mov     si, offset words
        call    text                    # "tick "
        mov     eax, edi
        call    decimal
        call    text                    # " nonce "
        mov     cx, 8
digit:  rol     ebp, 4
        mov     al, 15
        and     ax, bp
        cmp     al, 10
        jb      below
        add     al, 'a' - '0' - 10
below:  add     al, '0'
        call    char
        loop    digit
        call    text                    # end of line
        mov     ebx, [0x46c]            # the BIOS counts here 18.2 times a second
        add     ebx, 9
rest:   hlt
        cmp     [0x46c], ebx
        jb      rest
        jmp     again

decimal:                                # eax
        xor     edx, edx
        mov     ecx, 10
        div     ecx
        push    dx
        test    eax, eax
        jz      last
        call    decimal
last:   pop     ax
        add     al, '0'
char:   push    dx                      # al
        push    ax
        mov     dx, 0x3fd
busy:   in      al, dx
        test    al, 0x20
        jz      busy
        pop     ax
        mov     dx, 0x3f8
        out     dx, al
        pop     dx
        ret
text:   lodsb                           # the zero-ended text at si
        test    al, al
        jz      done
        call    char
        jmp     text
done:   ret

words:  .asciz  "tick "
        .asciz  " nonce "
        .asciz  "\r\n"
        .org    510
        .word   0xaa55
