# rewrite MIB PAGES: keeps MIB of memory in which each page holds a number of its own, and goes over it
# again and again, PAGES every 10 ms: looks whether a page holds what it should, in every word, and gives
# it the next number.  So at any moment all of that memory is known, and a page that is older or newer
# than it should be is found at the next round.  Says once a second how often it went over it.
.intel_syntax noprefix
.globl _start
.include "says.inc"

#       r12 pages  r13 of them in 10 ms  r14 where they are
#       r15 rounds  rbx the page whose turn it is  rbp what is left of the 10 ms
_start:
        mov     rsi, [rsp + 16]
        call    number
        shl     rax, 8
        mov     r12, rax
        mov     rsi, [rsp + 24]
        call    number
        mov     r13, rax
        mov     eax, 9                  # mmap
        xor     edi, edi
        mov     rsi, r12
        shl     rsi, 12
        mov     edx, 3                  # PROT_READ | PROT_WRITE
        mov     r10d, 0x8022            # MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE
        mov     r8, -1
        xor     r9d, r9d
        syscall
        mov     r14, rax
        xor     r15d, r15d
        xor     ebx, ebx
fill:   call    fresh
        rep stosq
        inc     rbx
        cmp     rbx, r12
        jb      fill
        mov     rbp, r13

round:  xor     ebx, ebx
page:   call    fresh
        repe scasq
        jne     wrong
        inc     r15
        call    fresh
        dec     r15
        rep stosq
        dec     rbp
        jnz     next
        call    rest
        mov     rbp, r13
next:   inc     rbx
        cmp     rbx, r12
        jb      page
        inc     r15
        jmp     round

# what page rbx holds in round r15, as rep stosq takes it: rax, rdi, rcx
fresh:  mov     rax, r15
        shl     rax, 32
        lea     rax, [rax + rbx + 1]
        mov     rdi, 0x9e3779b97f4a7c15 # odd, so that no two are alike, and all bits take part
        imul    rax, rdi
        mov     rdi, rbx
        shl     rdi, 12
        add     rdi, r14
        mov     ecx, 512
        ret

rest:   mov     edi, 10
        call    sleep
        dec     dword ptr [ticks]
        jnz     rested
        mov     dword ptr [ticks], 100
        mov     rsi, offset rewritten
        mov     rax, r15
        call    say
rested: ret

wrong:  mov     rsi, offset mistake
        mov     rax, rbx
        call    say
        mov     eax, 60                 # exit
        mov     edi, 1
        syscall

.data
ticks:  .long   100
rewritten:
        .asciz  "rewritten "
mistake:
        .asciz  "WRONG page "
