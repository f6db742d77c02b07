// Code of a file that begins in one page and goes on in the next, which alone is changed: what is executed is the new
// code. So is what a branch leads to that was not taken before, whose new code looks at flags that the old did not.
// prints: 1 2, 7 1
// exact
// build dynamic: gcc -O2
#include "check.h"

#define PAGE 4096

int main(void)
{
	FILE *file = tmpfile();
	CHECK(file && ftruncate(fileno(file), 2 * PAGE) == 0);
	unsigned char *code = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
	CHECK(code != MAP_FAILED);
	unsigned char answer[] = {0x90, 0x90, 0xb8, 1, 0, 0, 0, 0xc3};
	// nop; nop; mov eax, 1; ret: the number is in the second page
	memcpy(code + PAGE - 3, answer, sizeof answer);
	// cmp edi, esi; jl +n (to the second page); mov eax, 7; ret
	unsigned char chooses[] = {0x39, 0xf7, 0x0f, 0x8c, 0, 0, 0, 0, 0xb8, 7, 0, 0, 0, 0xc3};
	int distance = PAGE + 256 - (64 + 8);
	memcpy(chooses + 4, &distance, 4);
	memcpy(code + 64, chooses, sizeof chooses);
	// xor eax, eax; ret
	unsigned char clears[] = {0x31, 0xc0, 0xc3};
	memcpy(code + PAGE + 256, clears, sizeof clears);
	code = mmap(0, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(file), 0);
	CHECK(code != MAP_FAILED);
	int (*number)(void) = (int (*)(void))(code + PAGE - 3);
	int (*choose)(int, int) = (int (*)(int, int))(code + 64);
	int first = number(), greater = choose(2, 1);
	CHECK(mprotect(code + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
	code[PAGE] = 2;
	// setl al; movzx eax, al; ret
	unsigned char looks[] = {0x0f, 0x9c, 0xc0, 0x0f, 0xb6, 0xc0, 0xc3};
	memcpy(code + PAGE + 256, looks, sizeof looks);
	CHECK(mprotect(code + PAGE, PAGE, PROT_READ | PROT_EXEC) == 0);
	int second = number(), less = choose(-5, 1);
	printf("%d %d, %d %d\n", first, second, greater, less);
}
