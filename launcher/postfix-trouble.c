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
 * The engine greets with "postfix-trouble engine 1 VERSION SECONDS\n": version of the
 * protocol, of the program, and how long a request may take. Then frames, each a letter,
 * four bytes of length (big endian) and the data. From here: a (one argument), m (a piece
 * of the message), e (its end), s (a signal came: the number). From there, one: r (a byte
 * of exit status, then the text for pipe(8)). postfix_trouble/engine/protocol.py is the
 * other side.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#ifndef VERSION
#error "compile with -DVERSION='\"X.Y.Z\"', the version of the Python package"
#endif

#define GREETING "postfix-trouble engine 1 " VERSION " "
enum { EX_USAGE_ = 64, EX_TEMPFAIL_ = 75, EX_CONFIG_ = 78, LAUNCHED_OK = 100 };
enum { GREETING_MS = 2000, AFTER_MS = 15000, MOST_ANSWER = 64 << 20 };

static int by_hand;             /* a person typed the command, and reads standard error */
static volatile sig_atomic_t caught;

static void catch_signal(int number) { caught = number; }

/* The answer: one write, and the rest only if that took a part. */
static void say(const char *text, size_t length)
{
    while (length > 0) {
        ssize_t written = write(STDOUT_FILENO, text, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0 && errno == EAGAIN) {
            struct pollfd out = { STDOUT_FILENO, POLLOUT, 0 };
            if (poll(&out, 1, 10000) > 0)
                continue;
        }
        if (written <= 0)
            return;             /* nobody reads; the exit status says the same */
        text += written;
        length -= (size_t) written;
    }
}

static _Noreturn void defer(const char *format, ...)
{
    char text[512];
    va_list values;

    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    if (by_hand)
        dprintf(STDERR_FILENO, "postfix-trouble: %s\n", text);
    else
        say(text, strlen(text));
    _exit(EX_TEMPFAIL_);
}

/* The exit status for pipe(8), or for a person; what is not known defers. */
static _Noreturn void leave(int status, int signaled)
{
    if (by_hand && signaled && status == SIGINT) {
        sigset_t only;

        /* A shell stops its loop only if the command died of ^C, too. */
        signal(SIGINT, SIG_DFL);
        sigemptyset(&only);
        sigaddset(&only, SIGINT);
        raise(SIGINT);
        sigprocmask(SIG_UNBLOCK, &only, NULL);
    }
    if (!signaled && status == LAUNCHED_OK)
        _exit(0);
    if (!signaled && (status == 65 || status == 67 || status == 68 || status == 69
            || status == EX_TEMPFAIL_ || status == 76 || status == 77))
        _exit(status);
    if (!signaled && by_hand && (status == EX_USAGE_ || status == EX_CONFIG_))
        _exit(status);
    if (by_hand)
        defer("ended with status %d", signaled ? 128 + status : status);
    defer("4.3.0 postfix-trouble ended unexpectedly (status %d)",
          signaled ? 128 + status : status);
}

/* --- one Python for this mail --- */

/* Where the program is installed: the folder of this file, links followed. */
static void own_folder(char *folder, size_t size, const char *name)
{
    ssize_t length = readlink("/proc/self/exe", folder, size - 1);
    char *slash;

    if (length < 0) {
        if (realpath(name, folder) == NULL)
            strcpy(folder, "/usr/bin/x");
    } else
        folder[length] = '\0';
    slash = strrchr(folder, '/');
    if (slash != NULL)
        *slash = '\0';
}

/* The package beside us: the last ../lib/python3*, as a shell would find it. */
static int find_package(const char *folder, char *main, size_t size, int *complete)
{
    char lib[PATH_MAX + 8], best[NAME_MAX + 1] = "", file[2 * PATH_MAX];
    struct dirent *entry;
    struct stat found;
    DIR *names;

    snprintf(lib, sizeof lib, "%s/../lib", folder);
    names = opendir(lib);
    if (names == NULL)
        return 0;
    while ((entry = readdir(names)) != NULL) {
        if (strncmp(entry->d_name, "python3", 7) != 0 || strcmp(entry->d_name, best) < 0)
            continue;
        snprintf(file, sizeof file, "%s/%s/site-packages/postfix_trouble/__main__.py",
                 lib, entry->d_name);
        if (stat(file, &found) == 0 && S_ISREG(found.st_mode))
            snprintf(best, sizeof best, "%s", entry->d_name);
    }
    closedir(names);
    if (best[0] == '\0')
        return 0;
    snprintf(file, sizeof file, "%s/%s/site-packages/scramp", lib, best);
    *complete = stat(file, &found) == 0;
    return snprintf(main, size, "%s/%s/site-packages/postfix_trouble/__main__.py", lib,
                    best) < (int) size;
}

/* Become Python. Without site where all that is needed lies beside: 6 ms less. */
static void run_python(const char *name, int count, char **words, int launched)
{
    static char folder[PATH_MAX], python[PATH_MAX + 16], main[4 * PATH_MAX];
    char **command = calloc((size_t) count + 8, sizeof *command);
    char mark[32];
    int complete = 0, at = 0, number;

    if (command == NULL)
        return;
    own_folder(folder, sizeof folder, name);
    snprintf(python, sizeof python, "%s/python3", folder);
    if (access(python, X_OK) != 0)
        strcpy(python, "python3");
    command[at++] = python;
    command[at++] = (char *) "-I";
    if (find_package(folder, main, sizeof main, &complete)) {
        if (complete && python[0] == '/')
            command[at++] = (char *) "-S";
        command[at++] = main;
    } else {
        command[at++] = (char *) "-m";
        command[at++] = (char *) "postfix_trouble";
    }
    /* It looks whether its launcher is still there before it ends the message. */
    snprintf(mark, sizeof mark, "@launcher=%ld", (long) getppid());
    if (launched)
        command[at++] = mark;
    for (number = 0; number < count; number++)
        command[at++] = words[number];
    execvp(python, command);
}

static _Noreturn void one_shot(const char *name, int count, char **words)
{
    static const int passed[] = { SIGTERM, SIGINT, SIGHUP };
    pid_t parent = getpid(), child;
    sigset_t awaited, before;
    size_t number;
    int status;

    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    for (number = 0; number < sizeof passed / sizeof *passed; number++) {
        struct sigaction action;
        if (sigaction(passed[number], NULL, &action) == 0
            && action.sa_handler != SIG_IGN)
            sigaddset(&awaited, passed[number]);
    }
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_BLOCK, &awaited, &before);
    if (caught)
        defer("4.3.0 terminated by signal");
    child = fork();
    if (child < 0)
        defer("4.3.0 system resource problem: cannot start a process: %s",
              strerror(errno));
    if (child == 0) {
        /* Nobody waits for a delivery whose launcher is gone. */
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
            _exit(EX_TEMPFAIL_);
        for (number = 0; number < sizeof passed / sizeof *passed; number++)
            if (sigismember(&awaited, passed[number]))
                signal(passed[number], SIG_DFL);
        signal(SIGPIPE, SIG_DFL);
        sigprocmask(SIG_SETMASK, &before, NULL);
        run_python(name, count, words, 1);
        _exit(127);
    }
    for (;;) {
        int which = sigwaitinfo(&awaited, NULL);
        if (which > 0 && which != SIGCHLD)
            kill(child, which);
        if (waitpid(child, &status, WNOHANG) == child)
            break;
    }
    if (WIFEXITED(status))
        leave(WEXITSTATUS(status), 0);
    leave(WTERMSIG(status), 1);
}

/* --- a request to the engine --- */

/* Tell the log that there is no engine, at most once a minute for each engine. */
static void warn(const char *path, const char *why)
{
    char mark[sizeof ((struct sockaddr_un *) 0)->sun_path + 16];
    struct stat last;
    int file;

    snprintf(mark, sizeof mark, "%s.warned", path);
    file = open(mark, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file >= 0) {
        int recent = fstat(file, &last) == 0 && last.st_size > 0
            && time(NULL) - last.st_mtime < 60 && time(NULL) >= last.st_mtime;
        if (!recent && (ftruncate(file, 0) != 0 || write(file, "\n", 1) != 1))
            recent = 0;         /* no room: better once too often */
        close(file);
        if (recent)
            return;
    }
    openlog("postfix-trouble", LOG_PID, LOG_MAIL);
    syslog(LOG_WARNING, "warning: no engine at %s (%s): one process a mail", path, why);
    closelog();
}

static long long now_ms(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (long long) time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* Whether the reader of our answer is gone: pipe(8) has been killed. */
static int nobody_waits(void)
{
    struct pollfd out = { STDOUT_FILENO, 0, 0 };

    return poll(&out, 1, 0) > 0 && (out.revents & POLLERR);
}

/*
 * Wait until the socket can be read or written, or standard input be read. Returns the
 * index of what is ready (0: input, 1: socket). A signal, the end of our time or of the
 * one who waits for us ends the request here; the engine sees the connection close.
 */
static int wait_for(int sock, short events, int input, long long end, int *signaled)
{
    sigset_t none;

    sigemptyset(&none);
    for (;;) {
        struct pollfd places[3] = {
            { input ? STDIN_FILENO : -1, POLLIN, 0 },
            { sock, events, 0 },
            { STDOUT_FILENO, 0, 0 },
        };
        long long left = end - now_ms();
        struct timespec limit = { (time_t) (left / 1000), (left % 1000) * 1000000 };
        int ready;

        if (left <= 0)
            defer("4.4.2 no answer from the engine in time");
        ready = caught ? -1 : ppoll(places, 3, &limit, &none);
        if (caught) {
            if (signaled == NULL)
                defer("4.3.0 terminated by signal");
            *signaled = caught;
            caught = 0;
            return 1;
        }
        if (ready < 0 && errno != EINTR)
            defer("4.3.0 cannot wait for the engine: %s", strerror(errno));
        if (ready <= 0)
            continue;
        if (places[2].revents & POLLERR)
            defer("4.3.0 nobody waits for an answer");
        if (places[1].revents)
            return 1;
        if (places[0].revents)
            return 0;
    }
}

static int gone;                /* nothing can be sent any more */

static void send_all(int sock, const char *data, size_t length, long long end)
{
    while (length > 0 && !gone) {
        ssize_t sent = send(sock, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            wait_for(sock, POLLOUT, 0, end, NULL);
            continue;
        }
        if (sent < 0 && errno != EINTR)
            gone = 1;           /* it may have said why */
        if (sent > 0) {
            data += sent;
            length -= (size_t) sent;
        }
    }
}

static void send_frame(int sock, char kind, const char *data, size_t length,
                       long long end)
{
    char head[5] = { kind, (char) (length >> 24), (char) (length >> 16),
        (char) (length >> 8), (char) length };

    send_all(sock, head, sizeof head, end);
    send_all(sock, data, length, end);
}

/* Connect and be greeted. Returns the socket, or -1 and why; *seconds: its time limit. */
static int greeted(const char *path, long *seconds, const char **why)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct ucred peer = { 0, (uid_t) -1, (gid_t) -1 };
    socklen_t size = sizeof peer;
    long long end = now_ms() + GREETING_MS;
    char line[200];
    size_t length = 0;
    sigset_t nothing;
    int sock;

    sigemptyset(&nothing);
    *why = "the path is not absolute, or too long";
    if (path[0] != '/' || strlen(path) >= sizeof address.sun_path)
        return -1;
    strcpy(address.sun_path, path);
    *why = "no descriptor";
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock < 0)
        return -1;
    *why = "nobody listens";
    if (connect(sock, (struct sockaddr *) &address, sizeof address) != 0)
        goto failed;
    *why = "it runs as another account";
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0
        || (peer.uid != geteuid() && peer.uid != 0))
        goto failed;
    *why = "no greeting";
    for (;;) {
        struct pollfd place = { sock, POLLIN, 0 };
        long long left = end - now_ms();
        struct timespec limit;
        ssize_t got;
        char *stop;

        if (caught)
            defer("4.3.0 terminated by signal");
        if (left <= 0 || length == sizeof line - 1)
            goto failed;
        limit.tv_sec = (time_t) (left / 1000);
        limit.tv_nsec = left % 1000 * 1000000;
        if (ppoll(&place, 1, &limit, &nothing) <= 0)
            continue;
        /* A byte at a time is one line, and no more than that is read. */
        got = recv(sock, line + length, 1, 0);
        if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
            goto failed;
        if (got < 0 || line[length++] != '\n')
            continue;
        line[length] = '\0';
        *why = "it is of another version";
        if (strncmp(line, GREETING, strlen(GREETING)) != 0)
            goto failed;
        *seconds = strtol(line + strlen(GREETING), &stop, 10);
        if (*stop != '\n' || *seconds <= 0 || *seconds > 1000000)
            goto failed;
        return sock;
    }
failed:
    close(sock);
    return -1;
}

/* The text has the class of the status, or something is wrong with the engine. */
static int sound(int status, const char *text, size_t length, int json)
{
    if (json)
        return length > 0 && text[0] == '{';
    if (status == LAUNCHED_OK)
        return length < 2 || !(text[0] >= '2' && text[0] <= '5' && text[1] == '.');
    if (length < 7)
        return 0;
    return text[1] == '.' && text[0] == (status == EX_TEMPFAIL_ ? '4' : '5');
}

/* `whole`: the engine has all of the message, and may deliver it. */
static _Noreturn void take_answer(int sock, long long end, int json, int whole)
{
    size_t have = 0, room = 8192, wanted = 5;
    unsigned char *data = malloc(room);

    for (;;) {
        int number = 0;
        ssize_t got;

        if (data == NULL)
            defer("4.3.0 system resource problem: out of memory");
        wait_for(sock, POLLIN, 0, end, &number);
        if (number > 0) {
            char digits[12];
            int length = snprintf(digits, sizeof digits, "%d", number);
            send_frame(sock, 's', digits, (size_t) length, end);
            /* Nor for an engine that hangs is there more time than this. */
            if (end > now_ms() + AFTER_MS)
                end = now_ms() + AFTER_MS;
            continue;
        }
        got = recv(sock, data + have, room - have, MSG_DONTWAIT);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            defer("4.3.0 lost connection with the engine%s",
                  whole ? " -- message may be sent more than once" : "");
        have += (size_t) got;
        if (have < wanted)
            continue;
        if (wanted == 5) {
            size_t length = (size_t) data[1] << 24 | (size_t) data[2] << 16
                | (size_t) data[3] << 8 | data[4];
            if (data[0] != 'r' || length < 1 || length > MOST_ANSWER)
                break;
            wanted += length;
            if (room < wanted) {
                unsigned char *larger = realloc(data, wanted);
                if (larger == NULL)
                    defer("4.3.0 system resource problem: out of memory");
                data = larger;
                room = wanted;
            }
        }
        if (have >= wanted) {
            int status = data[5];
            const char *text = (const char *) data + 6;
            if (!sound(status, text, wanted - 6, json))
                break;
            say(text, wanted - 6);
            leave(status, 0);
        }
    }
    defer("4.3.0 the engine gave no answer that makes sense");
}

/* Hand the request over, if there is an engine. Returns only if there is none. */
static void by_engine(const char *path, int count, char **words)
{
    static char piece[65536];
    const char *why;
    long seconds = 0;
    long long end;
    int sock = greeted(path, &seconds, &why), number, json = 0, options = 1;

    if (sock < 0) {
        warn(path, why);
        return;
    }
    end = now_ms() + seconds * 1000LL + AFTER_MS;
    for (number = 0; number < count; number++) {
        options = options && strcmp(words[number], "--") != 0;
        json = json || (options && strcmp(words[number], "--json") == 0);
        send_frame(sock, 'a', words[number], strlen(words[number]), end);
    }
    for (;;) {
        ssize_t got;

        if (gone || wait_for(sock, POLLIN, 1, end, NULL) == 1)
            take_answer(sock, end, json, 0);    /* it does not want the message */
        got = read(STDIN_FILENO, piece, sizeof piece);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0)
            defer("4.3.0 cannot read the message: %s", strerror(errno));
        if (got == 0)
            break;
        send_frame(sock, 'm', piece, (size_t) got, end);
    }
    if (nobody_waits())
        defer("4.3.0 nobody waits for an answer");
    send_frame(sock, 'e', "", 0, end);
    take_answer(sock, end, json, 1);
}

static int is(const char *word, const char *other)
{
    return word != NULL && strcmp(word, other) == 0;
}

int main(int count, char **words)
{
    static const char engine[] = "--engine=";
    const char *command = count > 1 ? words[1] : NULL;
    const char *name = count > 0 ? words[0] : "postfix-trouble";
    struct sigaction action = { .sa_handler = catch_signal }, old;
    static const int answered[] = { SIGTERM, SIGINT, SIGHUP };
    size_t number;

    if (is(command, "lmtp") || is(command, "serve")) {
        /* A server has sockets in place of an exit status, and its own signals. */
        run_python(name, count - 1, words + 1, 0);
        defer("4.3.0 cannot start Python: %s", strerror(errno));
    }
    /* A write that fails is seen as that. */
    signal(SIGPIPE, SIG_IGN);
    by_hand = is(command, "send") || is(command, "probe") || is(command, "explain")
        || is(command, "check");
    /* A mistake, and not in master.cf. */
    if (!is(command, "deliver"))
        by_hand = by_hand || isatty(0) || isatty(1) || isatty(2);
    if (!by_hand && !isatty(STDERR_FILENO)) {
        /* The status is the first byte that pipe(8) reads, and it reads this too. */
        int null = open("/dev/null", O_WRONLY);
        if (null >= 0) {
            dup2(null, STDERR_FILENO);
            if (null != STDERR_FILENO)
                close(null);
        } else
            close(STDERR_FILENO);
    }
    if (is(command, "deliver") && count > 2
        && strncmp(words[2], engine, strlen(engine)) == 0) {
        sigset_t blocked, before;

        sigemptyset(&blocked);
        for (number = 0; number < sizeof answered / sizeof *answered; number++)
            if (sigaction(answered[number], NULL, &old) == 0
                && old.sa_handler != SIG_IGN) {
                sigaction(answered[number], &action, NULL);
                sigaddset(&blocked, answered[number]);
            }
        /* They come only where we wait, so none is lost between a look and a wait. */
        sigprocmask(SIG_BLOCK, &blocked, &before);
        by_engine(words[2] + strlen(engine), count - 3, words + 3);
        sigprocmask(SIG_SETMASK, &before, NULL);
        words[2] = words[1];
        one_shot(name, count - 2, words + 2);
    }
    one_shot(name, count > 0 ? count - 1 : 0, words + 1);
}
