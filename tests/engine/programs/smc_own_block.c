// Code that changes itself: the store rewrites the constant of the instruction right behind it, in one straight line, and a loop
// rewrites its own body each round.
// prints: next 300 loop 300
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"

static uint32_t pass(unsigned char *code, uint32_t argument)
{
	return ((uint32_t(*)(uint32_t))code)(argument);
}

int main(void)
{
	unsigned char *code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
	static const unsigned char next[] = {
		0x89, 0x3d, 1, 0, 0, 0, // mov %edi, 1(%rip): the constant below.
		0xb8, 0, 0, 0, 0,       // mov $0, %eax
		0xc3,                   // ret
	};
	static const unsigned char loop[] = {
		0x31, 0xc0,                   // xor %eax, %eax
		0x05, 0, 0, 0, 0,             // add $0, %eax
		0xff, 0x05, 0xf6, 0xff, 0xff, 0xff, // incl -10(%rip): that constant.
		0xff, 0xcf,                   // dec %edi
		0x75, 0xf1,                   // jnz the add
		0xc3,                         // ret
	};
	int i;
	memcpy(code, next, sizeof(next));
	for (i = 0; i < 300; i++)
		CHECK(pass(code, i * 7) == i * 7u);
	memcpy(code, loop, sizeof(loop));
	CHECK(pass(code, 300) == 300 * 299 / 2);
	printf("next %d loop 300\n", i);
}
