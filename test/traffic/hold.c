/*
 * Holds one thread where it is, as a thread that hangs: `hold TID` prints
 * "held", and lets go when its stdin closes. The rest of the process runs on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	pid_t tid = argc == 2 ? (pid_t)atoi(argv[1]) : 0;
	char byte;

	if (tid <= 0) {
		fprintf(stderr, "usage: hold TID\n");
		return 64;
	}
	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0 ||
	    ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0 || waitpid(tid, NULL, __WALL) < 0) {
		fprintf(stderr, "hold: cannot hold thread %d: %s\n", (int)tid, strerror(errno));
		return 1;
	}
	puts("held");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0; /* the kernel detaches, and the thread goes on */
}
