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
 * Once the request is taken, nothing is tried a second time.
 *
 * The engine greets with "postfix-trouble engine 1 VERSION SECONDS DELIVERIES\n": version
 * of the protocol, of the program, how long a request may take, how many it makes at
 * once. Then frames, each a letter, four bytes of length (big endian) and the data. From
 * here: a (one argument), m (a piece of the message), e (its end), s (a signal came: the
 * number). From there, one: r (a byte of exit status, then the text for pipe(8)).
 * postfix_trouble/engine/protocol.py is the other side; bin/postfix-trouble and
 * postfix_trouble/engine/client.py do the same where nobody can compile this.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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
#include <time.h>
#include <unistd.h>

#define GREETING "postfix-trouble engine 1 " VERSION " "
#define LOST "4.3.0 lost connection with the engine"
#define IN_DOUBT LOST " -- message may be sent more than once"
#define TERMINATED "4.3.0 terminated by signal"
#define NO_MEMORY "4.3.0 system resource problem: out of memory"
#define NO_SENSE "4.3.0 the engine gave no answer that makes sense"
#define NOBODY_WAITS "4.3.0 nobody waits for an answer"

enum { DEFERRED = 75, LAUNCHED_OK = 100 };
enum { GREETED_WITHIN = 2, AFTER = 15 };        /* seconds */
enum { PIECE = 65536, MOST_ANSWER = 64 << 20 };

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
    return status == 65 || (status >= 67 && status <= 69) || status == DEFERRED
        || status == 76 || status == 77;
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
    static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
    size_t at;

    sigemptyset(&passed);
    for (at = 0; at < sizeof numbers / sizeof *numbers; at++)
        if (signal(numbers[at], handler) == SIG_IGN)
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
static long long end;           /* when we stop waiting, milliseconds */

static long long now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (long long) time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

enum event { INPUT, ENGINE, SIGNAL };

/* Wait for the engine, and for standard input if that is wanted. */
static enum event wait_for(short wanted, int input)
{
    for (;;) {
        struct pollfd places[] = {
            { input ? STDIN_FILENO : -1, POLLIN, 0 },
            { engine, wanted, 0 },
            { STDOUT_FILENO, 0, 0 },
        };
        long long left = end - now();
        struct timespec limit = { (time_t) (left / 1000), left % 1000 * 1000000 };
        int ready;

        if (left <= 0)
            defer("4.4.2 no answer from the engine in time");
        ready = ppoll(places, 3, &limit, &before);
        if (caught)
            return SIGNAL;
        if (ready < 0 && errno != EINTR)
            defer(NO_MEMORY);
        if (ready <= 0)
            continue;
        if (places[2].revents & POLLERR)
            defer(NOBODY_WAITS);
        return places[1].revents ? ENGINE : INPUT;
    }
}

/* The same, where a signal ends the request: the engine sees the connection close. */
static enum event wait_or_end(short wanted, int input)
{
    enum event event = wait_for(wanted, input);

    if (event == SIGNAL)
        defer(TERMINATED);
    return event;
}

static char *waiting;           /* to be sent */
static size_t filled;

static void frame(char kind, const char *data, size_t length)
{
    char head[] = { kind, (char) (length >> 24), (char) (length >> 16),
        (char) (length >> 8), (char) length };

    waiting = realloc(waiting, filled + sizeof head + length);
    if (waiting == NULL)
        defer(NO_MEMORY);
    memcpy(waiting + filled, head, sizeof head);
    memcpy(waiting + filled + sizeof head, data, length);
    filled += sizeof head + length;
}

static void flush(void)
{
    size_t at = 0;

    while (at < filled && !gone) {
        ssize_t sent = send(engine, waiting + at, filled - at, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent > 0)
            at += (size_t) sent;
        else if (errno == EAGAIN)
            wait_or_end(POLLOUT, 0);
        else if (errno != EINTR)
            gone = 1;           /* it may have said why */
    }
    filled = 0;
}

/* Connect and be greeted. Returns why there is no engine; NULL: there is one. */
static const char *greeted(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct pollfd place = { -1, POLLIN, 0 };
    struct timespec limit = { GREETED_WITHIN, 0 };
    struct ucred peer;
    socklen_t size = sizeof peer;
    char line[200], *stop;
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
    /* It is sent in one piece. No more than that is read. */
    got = recv(engine, line, sizeof line - 1, MSG_PEEK | MSG_DONTWAIT);
    if (got <= 0)
        return "no greeting";
    line[got] = '\0';
    stop = strchr(line, '\n');
    if (stop == NULL || sscanf(line, GREETING "%6ld %*d\n", &seconds) != 1 || seconds <= 0)
        return "it is of another version";
    if (recv(engine, line, (size_t) (stop + 1 - line), 0) <= 0)
        return "no greeting";
    end = now() + (seconds + AFTER) * 1000;
    return NULL;
}

/* --- a request to the engine --- */

/* Exactly so many bytes. A signal is the engine's to answer, from here on. */
static void receive(char *data, size_t length, const char *lost)
{
    while (length > 0) {
        ssize_t got;

        if (wait_for(POLLIN, 0) == SIGNAL) {
            char *number = print("%d", (int) caught);

            caught = 0;
            frame('s', number, strlen(number));
            flush();
            /* Nor for an engine that hangs is there more time than this. */
            if (end > now() + AFTER * 1000)
                end = now() + AFTER * 1000;
            continue;
        }
        got = recv(engine, data, length, MSG_DONTWAIT);
        if (got > 0) {
            data += got;
            length -= (size_t) got;
        } else if (got == 0 || (errno != EINTR && errno != EAGAIN))
            defer(lost);
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

static _Noreturn void take_answer(int json, const char *lost)
{
    unsigned char head[6];      /* of the frame, and the status */
    size_t length;
    char *text;

    receive((char *) head, sizeof head, lost);
    length = (size_t) head[1] << 24 | (size_t) head[2] << 16 | (size_t) head[3] << 8
        | head[4];
    if (head[0] != 'r' || length < 1 || length > MOST_ANSWER)
        defer(NO_SENSE);
    text = malloc(length--);
    if (text == NULL)
        defer(NO_MEMORY);
    receive(text, length, lost);
    if (!sound(head[5], text, length, json))
        defer(NO_SENSE);
    say(text, length);
    leave(head[5]);
}

/* Hand the request over, if there is an engine. Returns only if there is none: why. */
static const char *by_engine(const char *path, char **words)
{
    static char piece[PIECE];
    struct pollfd reader = { STDOUT_FILENO, 0, 0 };
    const char *why = greeted(path);
    int json = 0, options = 1;
    ssize_t got;

    if (why != NULL) {
        close(engine);
        return why;
    }
    for (; *words != NULL; words++) {
        options = options && strcmp(*words, "--") != 0;
        json = json || (options && strcmp(*words, "--json") == 0);
        frame('a', *words, strlen(*words));
    }
    do {
        if (gone || wait_or_end(POLLIN, 1) == ENGINE)
            take_answer(json, LOST);    /* it does not want the message */
        got = read(STDIN_FILENO, piece, sizeof piece);
        if (got > 0) {
            frame('m', piece, (size_t) got);
            flush();
        } else if (got < 0 && errno != EINTR && errno != EAGAIN)
            defer(print("4.3.0 cannot read the message: %s", strerror(errno)));
    } while (got != 0);
    /* Where pipe(8) has been killed, this is not the end of the message. */
    if (poll(&reader, 1, 0) > 0 && reader.revents & POLLERR)
        defer(NOBODY_WAITS);
    frame('e', "", 0);
    flush();
    take_answer(json, IN_DOUBT);
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
    if (!isatty(STDERR_FILENO)) {
        /* The status is the first byte that pipe(8) reads, and it reads this too. */
        int null = open("/dev/null", O_WRONLY);

        if (dup2(null, STDERR_FILENO) < 0)
            close(STDERR_FILENO);
        if (null > STDERR_FILENO)
            close(null);
    }
    on_signals(catch_signal);
    sigprocmask(SIG_BLOCK, &passed, &before);
    if (count > 2 && strcmp(words[0], "deliver") == 0
        && strncmp(words[1], option, sizeof option - 1) == 0)
        no_engine = by_engine(words[1] + sizeof option - 1, words + 2);
    one_shot(words, no_engine);
}
