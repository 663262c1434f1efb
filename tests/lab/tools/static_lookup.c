/*
 * Look a name up as a statically linked program does: NAME
 *
 * Built with musl, whose resolver asks all servers of resolv.conf at once.
 * Prints the IPv4 addresses found; exit status 1 for none.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	const struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL;
	char text[INET_ADDRSTRLEN];

	if (argc != 2 || getaddrinfo(argv[1], NULL, &hints, &found))
		return 1;
	for (const struct addrinfo *ai = found; ai; ai = ai->ai_next)
		puts(inet_ntop(AF_INET, &((struct sockaddr_in *)ai->ai_addr)->sin_addr, text,
			       sizeof(text)));
	freeaddrinfo(found);
	return 0;
}
