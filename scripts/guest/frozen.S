# frozen MS [rtc]: looks at the clocks every MS milliseconds, and says by how many they went too far.
#
#   gap N   so long did it not run, by the clock that goes on while Linux sleeps (MS + 50 or more)
#   lag N   so much is that clock behind the machine's own (RTC) in all, each time that this grows by
#           20 ms: a machine that is stopped as a whole sees no gap, only that it is later than thought;
#           only with "rtc": a guest that Xen has resumed may not ask the ports any more (SIGSEGV)
.intel_syntax noprefix
.globl _start
.include "says.inc"

#       r12 when it last looked, in ns   r13 when the RTC's second first changed
#       r14 seconds of the RTC since then, -1 before, -2 if there is none   r15 the lag that was said last
#       rbx the RTC's second
_start: mov     rsi, [rsp + 16]
        call    number
        mov     [every], eax
        add     eax, 50
        mov     [much], rax
        mov     rbp, 1
        cmp     dword ptr [rsp], 3
        jb      begin
        mov     eax, 173                # ioperm
        mov     edi, 0x70
        mov     esi, 2
        mov     edx, 1
        syscall
        mov     rbp, rax
begin:  call    now
        mov     r12, rax
        mov     r14, -2
        xor     r15d, r15d
        test    rbp, rbp
        jnz     look
        inc     r14
        call    second
        mov     ebx, eax

look:   mov     edi, [every]
        call    sleep
        call    now
        mov     rbp, rax
        sub     rax, r12
        mov     r12, rbp
        call    ms
        cmp     rax, [much]
        jb      clock
        mov     rsi, offset gap
        call    say

clock:  cmp     r14, -2
        je      look
        call    second
        mov     ecx, eax
        sub     eax, ebx                # seconds that passed, of a minute
        jz      look
        mov     ebx, ecx
        jns     same
        add     eax, 60
same:   cdqe
        test    r14, r14
        jns     going
        mov     r13, r12
        xor     eax, eax
        xor     r14d, r14d
going:  add     r14, rax
        mov     rax, r12
        sub     rax, r13
        call    ms
        imul    rcx, r14, 1000
        sub     rcx, rax                # the lag
        mov     rax, rcx
        sub     rcx, r15
        cmp     rcx, 20
        jl      look
        mov     r15, rax
        mov     rsi, offset lag
        call    say
        jmp     look

# nanoseconds since boot, in rax
now:    mov     eax, 228                # clock_gettime
        mov     edi, 7                  # CLOCK_BOOTTIME
        mov     rsi, offset time
        syscall
        imul    rax, [time], 1000000000
        add     rax, [time + 8]
        ret

# rax nanoseconds as milliseconds
ms:     xor     edx, edx
        mov     ecx, 1000000
        div     rcx
        ret

# the RTC's seconds, in eax
second: xor     eax, eax
        out     0x70, al
        in      al, 0x71
        mov     ecx, eax
        and     ecx, 15
        shr     eax, 4
        lea     eax, [rax + rax * 4]
        lea     eax, [rcx + rax * 2]
        ret

.data
gap:    .asciz  "gap "
lag:    .asciz  "lag "
.bss
time:   .skip   16
much:   .skip   8
every:  .skip   4
