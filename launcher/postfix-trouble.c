/*
 * postfix-trouble: what pipe(8) starts for each mail.
 *
 * pipe(8) takes any exit status that it does not know for a bounce, so this stands
 * between it and Python: an accident of any kind ends with 75 (deferred). Success has a
 * status of its own behind it (100): a 0 that nobody meant loses no mail.
 *
 * "deliver --engine=PATH ..." hands the request to a process that stays ("serve"), which
 * saves the start of a Python for each mail. Nothing is read from standard input before
 * that process has greeted, so without it the delivery is made by a Python of its own.
 * Once the request is taken, nothing is tried a second time. What the two say to each
 * other is in postfix_trouble/engine/protocol.py.
 *
 * bin/postfix-trouble and postfix_trouble/engine/client.py do the same where nobody can
 * compile this.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define GREETING "postfix-trouble engine 2 " VERSION " "
#define GREETING_NUMBERS 14     /* bytes: two numbers of six digits behind it */
#define LOST "4.3.0 lost connection with the engine"
#define IN_DOUBT LOST " -- message may be sent more than once"
#define TERMINATED "4.3.0 terminated by signal"
#define NO_MEMORY "4.3.0 system resource problem: out of memory"
#define NO_SENSE "4.3.0 the engine gave no answer that makes sense"
#define NOBODY_WAITS "4.3.0 nobody waits for an answer"

enum { DEFERRED = 75, LAUNCHED_OK = 100 };
enum { GREETED_WITHIN = 2, AFTER = 15 };        /* seconds */
enum { HEAD = 5, MOST_ANSWER = 64 << 20 };      /* bytes */

/* --- the answer to pipe(8) --- */

/* One write, and the rest only if that took a part. */
static void say(const char *text, size_t length)
{
    while (length > 0) {
        struct pollfd out = { STDOUT_FILENO, POLLOUT, 0 };
        ssize_t written = write(STDOUT_FILENO, text, length);

        if (written > 0) {
            text += written;
            length -= (size_t) written;
        } else if (errno != EINTR && (errno != EAGAIN || poll(&out, 1, 10000) <= 0))
            return;             /* nobody reads; the exit status says the same */
    }
}

static _Noreturn void defer(const char *text)
{
    say(text, strlen(text));
    _exit(DEFERRED);
}

__attribute__((format(printf, 1, 2))) static char *print(const char *format, ...)
{
    va_list values;
    char *text;

    va_start(values, format);
    if (vasprintf(&text, format, values) < 0)
        defer(NO_MEMORY);
    va_end(values);
    return text;
}

/* Whether pipe(8) takes an exit status for what we mean by it. */
static int known(int status)
{
    return status > 0 && strchr("\101\103\104\105\113\114\115", status) != NULL;
}

static _Noreturn void leave(int status)
{
    if (status == LAUNCHED_OK)
        _exit(0);
    if (known(status))
        _exit(status);
    defer(print("4.3.0 postfix-trouble ended unexpectedly (status %d)", status));
}

/* --- signals: they are blocked, but where we wait --- */

static sigset_t passed, before; /* those that end a delivery; the mask as it was */
static volatile sig_atomic_t caught;

static void catch_signal(int number) { caught = number; }

/* What nohup has ignored stays so. */
static void on_signals(void (*handler)(int))
{
    static const int numbers[] = { SIGTERM, SIGINT, SIGHUP, SIGALRM };
    size_t at;

    sigemptyset(&passed);
    for (at = 0; at < sizeof numbers / sizeof *numbers; at++)
        if (signal(numbers[at], handler) == SIG_IGN && numbers[at] != SIGALRM)
            signal(numbers[at], SIG_IGN);
        else
            sigaddset(&passed, numbers[at]);
}

/* --- one Python for this mail --- */

/* Become Python, with the package beside us. Returns if that can't be. */
static void run_python(char **words, pid_t launcher, const char *no_engine)
{
    char *folder = realpath((const char *) getauxval(AT_EXECFN), NULL), *python;
    char **command;
    size_t count = 0, at = 0;
    int minor;

    while (words[count] != NULL)
        count++;
    command = calloc(count + 8, sizeof *command);
    if (folder == NULL || command == NULL)
        return;
    *strrchr(folder, '/') = '\0';
    python = print("%s/python3", folder);
    command[at++] = access(python, X_OK) == 0 ? python : (char *) "python3";
    command[at++] = (char *) "-I";
    for (minor = 40; minor > 10; minor--) {
        char *site = print("%s/../lib/python3.%d/site-packages", folder, minor);
        char *program = print("%s/postfix_trouble/__main__.py", site);

        if (access(program, F_OK) != 0)
            continue;
        /* Without site where all that is needed lies beside: 6 ms less. */
        if (command[0] == python && access(print("%s/scramp", site), F_OK) == 0)
            command[at++] = (char *) "-S";
        command[at++] = program;
        break;
    }
    if (minor == 10) {
        command[at++] = (char *) "-m";
        command[at++] = (char *) "postfix_trouble";
    }
    /* It looks whether its launcher is still there before it ends the message. */
    if (launcher != 0)
        command[at++] = print("@launcher=%ld", (long) launcher);
    if (no_engine != NULL)
        command[at++] = print("@no-engine=%s", no_engine);
    memcpy(command + at, words, count * sizeof *words);
    execvp(command[0], command);
}

static _Noreturn void one_shot(char **words, const char *no_engine)
{
    pid_t launcher = getpid(), child;
    sigset_t awaited = passed;
    int status;

    if (!isatty(STDERR_FILENO)) {
        /* The status is the first byte that pipe(8) reads, and it reads this too. */
        int null = open("/dev/null", O_WRONLY);

        if (dup2(null, STDERR_FILENO) < 0)
            close(STDERR_FILENO);
        if (null > STDERR_FILENO)
            close(null);
    }
    sigaddset(&awaited, SIGCHLD);
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_BLOCK, &awaited, NULL);
    child = fork();
    if (child < 0)
        defer(print("4.3.0 system resource problem: cannot start a process: %s",
                    strerror(errno)));
    if (child == 0) {
        /* Nobody waits for a delivery whose launcher is gone. */
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != launcher)
            _exit(DEFERRED);
        on_signals(SIG_DFL);
        sigprocmask(SIG_SETMASK, &before, NULL);
        run_python(words, launcher, no_engine);
        _exit(127);
    }
    while (waitpid(child, &status, WNOHANG) != child) {
        int number = sigwaitinfo(&awaited, NULL);

        if (number > 0 && number != SIGCHLD)
            kill(child, SIGTERM);
    }
    leave(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* --- the connection with the engine --- */

static int engine = -1;
static int gone;                /* nothing can be sent any more */
static const char *lost = LOST; /* what to say without an answer */
static int asked;               /* from here on, a signal is the engine's to answer */
static char out[65536];         /* frames to be sent */
static size_t filled, flushed;  /* bytes there, and those of them that are out */

static void signalled(void);

/* Wait for the engine (1), or for standard input (0) if that is wanted. */
static int wait_for(short wanted, int input)
{
    for (;;) {
        struct pollfd places[] = {
            { input ? STDIN_FILENO : -1, POLLIN, 0 },
            { engine, wanted, 0 },
            { STDOUT_FILENO, 0, 0 },
        };
        int ready = ppoll(places, 3, NULL, &before);

        if (caught)
            signalled();
        else if (ready < 0 && errno != EINTR)
            defer(NO_MEMORY);
        else if (ready > 0 && places[2].revents & POLLERR)
            defer(NOBODY_WAITS);
        else if (ready > 0)
            return places[1].revents != 0;
    }
}

/* A signal meanwhile has a frame of its own sent by this, too. */
static void flush(void)
{
    while (flushed < filled && !gone) {
        ssize_t sent = send(engine, out + flushed, filled - flushed,
            MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent > 0)
            flushed += (size_t) sent;
        else if (errno == EAGAIN)
            wait_for(POLLOUT, 0);
        else if (errno != EINTR)
            gone = 1;           /* it may have said why */
    }
    filled = flushed = 0;
}

/* Begin a frame: what it is, and how much data follows. */
static void begin(char kind, size_t length)
{
    int shift;

    if (sizeof out - filled < HEAD)
        flush();
    out[filled++] = kind;
    for (shift = 24; shift >= 0; shift -= 8)
        out[filled++] = (char) (length >> shift);
}

static void add(const char *data, size_t length)
{
    size_t part;

    for (; length > 0; length -= part, data += part) {
        if (filled == sizeof out)
            flush();
        part = sizeof out - filled < length ? sizeof out - filled : length;
        memcpy(out + filled, data, part);
        filled += part;
    }
}

static void signalled(void)
{
    char *number = print("%d", (int) caught);
    unsigned left;

    if (caught == SIGALRM)
        defer("4.4.2 no answer from the engine in time");
    if (!asked)
        defer(TERMINATED);      /* the engine sees the connection close */
    begin('s', strlen(number));
    add(number, strlen(number));
    caught = 0;
    flush();
    /* Nor for an engine that hangs is there more time than this. */
    left = alarm(AFTER);
    if (left > 0 && left < AFTER)
        alarm(left);
}

/* Connect and be greeted. Returns why there is no engine; NULL: there is one. */
static const char *greeted(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct pollfd place = { -1, POLLIN, 0 };
    struct timespec limit = { GREETED_WITHIN, 0 };
    struct ucred peer;
    socklen_t size = sizeof peer;
    char line[sizeof GREETING + GREETING_NUMBERS];
    ssize_t got;
    long seconds;

    if (path[0] != '/' || strlen(path) >= sizeof address.sun_path)
        return "the path is not absolute, or too long";
    strcpy(address.sun_path, path);
    engine = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (engine < 0 || connect(engine, (struct sockaddr *) &address, sizeof address) != 0)
        return strerror(errno);
    if (getsockopt(engine, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0
        || (peer.uid != geteuid() && peer.uid != 0))
        return "it runs as another account";
    place.fd = engine;
    if (ppoll(&place, 1, &limit, &before) <= 0 && caught)
        defer(TERMINATED);
    /* It comes in one piece, and always has the same length. */
    got = recv(engine, line, sizeof line - 1, MSG_DONTWAIT);
    if (got <= 0)
        return "no greeting";
    line[got] = '\0';
    seconds = strncmp(line, GREETING, sizeof GREETING - 1) == 0
        ? atol(line + sizeof GREETING - 1) : 0;
    if (seconds <= 0 || line[got - 1] != '\n')
        return "it is of another version";
    alarm((unsigned) seconds + AFTER);
    return NULL;
}

/* --- a request to the engine --- */

/* Exactly so many bytes. */
static void receive(void *data, size_t length)
{
    ssize_t got;

    for (; length > 0; length -= (size_t) got, data = (char *) data + got) {
        wait_for(POLLIN, 0);
        got = recv(engine, data, length, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
            defer(lost);
        if (got < 0)
            got = 0;
    }
}

/* pipe(8) goes by the text: it has to have the class of the status. */
static int sound(int status, const char *text, size_t length, int json)
{
    if (status != LAUNCHED_OK && !known(status))
        return 0;
    if (json)
        return length > 0 && text[0] == '{';
    if (status == LAUNCHED_OK)
        return length < 2 || text[0] < '2' || text[0] > '5' || text[1] != '.';
    return length >= 7 && text[0] == (status == DEFERRED ? '4' : '5') && text[1] == '.';
}

static _Noreturn void take_answer(int json)
{
    unsigned char head[HEAD + 1];       /* and the status */
    char few[512], *text = few;
    size_t length;

    asked = 1;
    receive(head, sizeof head);
    length = (size_t) head[1] << 24 | (size_t) head[2] << 16 | (size_t) head[3] << 8
        | head[4];
    if (head[0] != 'r' || length < 1 || length > MOST_ANSWER)
        defer(NO_SENSE);
    if (--length > sizeof few && (text = malloc(length)) == NULL)
        defer(NO_MEMORY);
    receive(text, length);
    if (!sound(head[HEAD], text, length, json))
        defer(NO_SENSE);
    say(text, length);
    leave(head[HEAD]);
}

/* Hand the request over, if there is an engine. Returns only if there is none: why. */
static const char *by_engine(const char *path, char **words)
{
    const char *why = greeted(path);
    int json = 0, options = 1;
    size_t length = 0, at;
    ssize_t got;

    if (why != NULL) {
        close(engine);
        return why;
    }
    for (at = 0; words[at] != NULL; at++) {
        options = options && strcmp(words[at], "--") != 0;
        json = json || (options && strcmp(words[at], "--json") == 0);
        length += strlen(words[at]) + 1;
    }
    begin('a', length);
    for (; *words != NULL; words++)
        add(*words, strlen(*words) + 1);
    do {
        /* A message of usual size goes out as one piece, with all before and after it:
           each piece wakes the engine. */
        if (filled > sizeof out / 2)
            flush();
        if (gone || wait_for(POLLIN, 1))
            take_answer(json);  /* it does not want the message */
        got = read(STDIN_FILENO, out + filled + HEAD, sizeof out - filled - HEAD);
        if (got > 0) {
            begin('m', (size_t) got);
            filled += (size_t) got;
        } else if (got < 0 && errno != EINTR && errno != EAGAIN)
            defer(print("4.3.0 cannot read the message: %s", strerror(errno)));
    } while (got != 0);
    /* Where pipe(8) has been killed, this is not the end of the message. */
    wait_for(POLLOUT, 0);
    begin('e', 0);
    flush();
    lost = IN_DOUBT;
    take_answer(json);
}

/* People and servers: these have no exit status for pipe(8). */
static int by_hand(const char *command)
{
    static const char *const others[] = { "send", "probe", "explain", "check", "lmtp",
        "serve" };
    size_t at;

    for (at = 0; at < sizeof others / sizeof *others; at++)
        if (strcmp(command, others[at]) == 0)
            return 1;
    /* A mistake. Without a terminal it may stand in master.cf. */
    return strcmp(command, "deliver") != 0 && (isatty(0) || isatty(1) || isatty(2));
}

int main(int count, char **words)
{
    static const char option[] = "--engine=";
    const char *no_engine = NULL;

    if (count < 1)
        defer("4.3.5 command line usage error: no command line");
    words++;
    if (by_hand(count > 1 ? words[0] : "")) {
        run_python(words, 0, NULL);
        defer(print("4.3.0 cannot start Python: %s", strerror(errno)));
    }
    signal(SIGPIPE, SIG_IGN);   /* a write that fails is seen as that */
    on_signals(catch_signal);
    sigprocmask(SIG_BLOCK, &passed, &before);
    sigdelset(&before, SIGALRM);        /* whoever started us: it ends each wait */
    if (count > 2 && strcmp(words[0], "deliver") == 0
        && strncmp(words[1], option, sizeof option - 1) == 0)
        no_engine = by_engine(words[1] + sizeof option - 1, words + 2);
    one_shot(words, no_engine);
}
