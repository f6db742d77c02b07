// The kernel writes the code: read(2), pread(2) and process_vm_writev(2) into RWX memory that was executed before.
// prints: read 100 pread 100 vm 100
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"
#include <sys/uio.h>

int main(void)
{
	unsigned char *code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC), text[6];
	int ends[2], fd = memfd_create("code", 0);
	CHECK(fd >= 0 && pipe(ends) == 0);
	for (uint32_t i = 0; i < 300; i++) {
		struct iovec from = {text, 6}, to = {code, 6};
		write_return(text, i);
		if (i < 100) {
			CHECK(write(ends[1], text, 6) == 6 && read(ends[0], code, 6) == 6);
		} else if (i < 200) {
			CHECK(pwrite(fd, text, 6, 0) == 6 && pread(fd, code, 6, 0) == 6);
		} else {
			CHECK(process_vm_writev(getpid(), &from, 1, &to, 1, 0) == 6);
		}
		CHECK(call(code) == i);
	}
	puts("read 100 pread 100 vm 100");
}
