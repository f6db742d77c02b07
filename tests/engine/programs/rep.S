// rep movs/stos/lods, repe/repne cmps and scas with counts of 0, 1 and many, forwards and backwards, all sizes; flags of a
// repe with count 0 stay as they were. A rep instruction counts once.
// prints: rep
// build static: gcc -nostdlib -static
// exact
#include "check.inc"
.macro pointers count
	lea	from(%rip), %rsi
	lea	to(%rip), %rdi
	mov	$\count, %ecx
.endm
.globl _start
_start:
.irp size, b, w, l, q
.irp count, 0, 1, 2, 64
	pointers \count
	rep movs\size
	CHECK_EQ($0, %rcx)
	pointers \count
	mov	$0x5a5a5a5a5a5a5a5a, %rax
	rep stos\size
	CHECK_EQ($0, %rcx)
	pointers \count
	rep lods\size
	CHECK_EQ($0, %rcx)
.endr
	pointers 64
	rep movs\size
	pointers 64
	repe cmps\size
	CHECK_EQ($0, %rcx)
.endr
	// cmps stops at the first difference: 100 bytes are equal, byte 100 is not.
	pointers 512
	rep movsb
	incb	to + 100(%rip)
	pointers 512
	repe cmpsb
	CHECK_EQ($411, %rcx)
	lea	from + 101(%rip), %rax
	CHECK_EQ(%rsi, %rax)
	// scas finds the byte 200, which stands at offset 200.
	pointers 512
	mov	%rsi, %rdi
	mov	$200, %al
	repne scasb
	CHECK_EQ($311, %rcx)
	// Count 0: neither compares nor changes a flag.
	mov	$0, %ecx
	stc
	repe cmpsb
	jnc	1f
	cmp	%eax, %eax
	repne scasb
	jnz	1f
	// Backwards.
	std
	lea	from + 99(%rip), %rsi
	lea	to + 99(%rip), %rdi
	mov	$100, %ecx
	rep movsb
	cld
	lea	from - 1(%rip), %rax
	CHECK_EQ(%rsi, %rax)
	// A long one, with the address-size prefix it counts in ecx.
	lea	big(%rip), %rdi
	mov	$0xffffffff00000000 + 100000, %rcx
	xor	%eax, %eax
	addr32 rep stosb
	CHECK_EQ($0, %rcx)
	FINISH	"rep"
1:	FAIL

.data
from:
.set i, 0
.rept 512
	.byte	i & 255
	.set	i, i + 1
.endr
.bss
to:	.skip	512
big:	.skip	100000
