#include "lib/fsutil.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

int fs_path(char out[PATH_MAX], struct err *e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out, PATH_MAX, fmt, ap);
    va_end(ap);
    if (n < 0)
        return err_set(e, -EINVAL, "a path cannot be formatted");
    if (n >= PATH_MAX)
        return err_sys(e, ENAMETOOLONG, "path %.64s...", out);
    return 0;
}

/* mkdir -p with a mode for what is created; what exists keeps its own. */
static int make_dirs(const char *path, mode_t mode, struct err *e)
{
    char part[PATH_MAX];
    int rc = fs_path(part, e, "%s", path);
    if (rc < 0)
        return rc;
    for (char *p = part; *p; p++) {
        if (*p != '/' || p == part)
            continue;
        *p = '\0';
        /* The last mkdir tells what is wrong; on the way read-only and foreign parents are ordinary. */
        if (mkdir(part, mode) < 0 && errno == ENOTDIR)
            return err_sys(e, ENOTDIR, "create directory %s", part);
        *p = '/';
    }
    if (mkdir(part, mode) == 0)
        return 0;
    int errnum = errno;
    struct stat st;
    if (stat(part, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;
    return err_sys(e, errnum, "create directory %s", part);
}

int fs_mkdirs(const char *path, struct err *e)
{
    return make_dirs(path, 0777, e);
}

/* Reads to the end rather than trusting st_size, which is 0 for what the kernel makes up. */
static int read_to_end(int fd, const char *path, size_t max, char **out_data, size_t *out_size, struct err *e)
{
    size_t room = 4096, size = 0;
    struct stat st;
    if (fstat(fd, &st) == 0 && st.st_size > 0 && (uint64_t)st.st_size <= max)
        room = (size_t)st.st_size + 2;
    char *data = malloc(room);
    if (!data)
        return err_sys(e, ENOMEM, "read %s", path);
    for (;;) {
        if (size + 1 == room) {
            char *more = realloc(data, room * 2);
            if (!more) {
                free(data);
                return err_sys(e, ENOMEM, "read %s", path);
            }
            data = more;
            room *= 2;
        }
        ssize_t n = read(fd, data + size, room - size - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int errnum = errno;
            free(data);
            return err_sys(e, errnum, "read %s", path);
        }
        if (n == 0)
            break;
        size += (size_t)n;
        if (size > max) {
            free(data);
            return err_set(e, -EFBIG, "read %s: larger than %zu bytes", path, max);
        }
    }
    data[size] = '\0';
    *out_data = data;
    *out_size = size;
    return 0;
}

int fs_read(const char *path, size_t max, char **out_data, size_t *out_size, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "open %s", path);
    int rc = read_to_end(fd, path, max, out_data, out_size, e);
    close(fd);
    return rc;
}

int fs_write_all(int fd, const void *data, size_t size, const char *what, struct err *e)
{
    const char *p = data;
    while (size > 0) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, errno, "write %s", what);
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

int fs_read_at(int fd, void *out, size_t size, uint64_t at, const char *what, struct err *e)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, (char *)out + done, size - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, errno, "read %s", what);
        if (n == 0)
            return err_set(e, XDC_EFORMAT, "%s: ends too early", what);
        done += (size_t)n;
    }
    return 0;
}

int fs_append(int fd, const void *data, size_t size, const char *what, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "write %s", what);
    int rc = fs_write_all(fd, data, size, what, e);
    if (rc < 0 && ftruncate(fd, st.st_size) < 0)
        err_wrap(e, "%s ends in the middle of a record", what);
    return rc;
}

/* The directory part of a path, "." when there is none. */
static void parent_of(const char *path, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s", path);
    size_t len = strlen(out);
    while (len > 1 && out[len - 1] == '/')
        out[--len] = '\0';
    char *slash = strrchr(out, '/');
    if (!slash)
        snprintf(out, PATH_MAX, ".");
    else if (slash == out)
        out[1] = '\0';
    else
        *slash = '\0';
}

static int sync_parent(const char *path, struct err *e)
{
    char parent[PATH_MAX];
    parent_of(path, parent);
    return fs_sync_dir(parent, e);
}

int fs_write_atomic(const char *path, const void *data, size_t size, struct err *e)
{
    char tmp[PATH_MAX];
    /* One name a thread, so that two writers never share a file; the last rename wins. */
    int rc = fs_path(tmp, e, "%s.%d.tmp", path, (int)gettid());
    if (rc < 0)
        return rc;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_sys(e, errno, "create %s", tmp);
    rc = fs_write_all(fd, data, size, tmp, e);
    if (rc == 0 && fsync(fd) < 0)
        rc = err_sys(e, errno, "sync %s", tmp);
    if (close(fd) < 0 && rc == 0)
        rc = err_sys(e, errno, "close %s", tmp);
    if (rc == 0 && rename(tmp, path) < 0)
        rc = err_sys(e, errno, "rename %s to %s", tmp, path);
    if (rc < 0) {
        unlink(tmp);
        return rc;
    }
    return sync_parent(path, e);
}

int fs_sync_dir(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "open directory %s", path);
    int rc = 0;
    /* EINVAL: a file system without such a notion, e.g. some FUSE ones. */
    if (fsync(fd) < 0 && errno != EINVAL)
        rc = err_sys(e, errno, "sync directory %s", path);
    close(fd);
    return rc;
}

/* fsync of one entry of an open directory; what is no regular file is left alone. */
static int sync_entry(int dir_fd, const char *dir, const char *name, struct err *e)
{
    struct stat st;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(e, errno, "stat %s/%s", dir, name);
    if (!S_ISREG(st.st_mode))
        return 0;
    int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "open %s/%s", dir, name);
    int rc = fsync(fd) < 0 ? err_sys(e, errno, "sync %s/%s", dir, name) : 0;
    close(fd);
    return rc;
}

static int sync_files(const char *path, struct err *e)
{
    DIR *dir = opendir(path);
    if (!dir)
        return err_sys(e, errno, "open directory %s", path);
    int rc = 0;
    while (rc == 0) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            if (errno)
                rc = err_sys(e, errno, "read directory %s", path);
            break;
        }
        rc = sync_entry(dirfd(dir), path, entry->d_name, e);
    }
    closedir(dir);
    return rc;
}

int fs_publish_dir(const char *from, const char *to, struct err *e)
{
    int rc = sync_files(from, e);
    if (rc == 0)
        rc = fs_sync_dir(from, e);
    if (rc < 0)
        return rc;
    if (rename(from, to) < 0)
        return err_sys(e, errno, "rename %s to %s", from, to);
    return sync_parent(to, e);
}

/* Depth first; what another process removed meanwhile is as gone as we want it. */
static int on_tree_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    if (remove(path) == 0 || errno == ENOENT)
        return 0;
    return errno;
}

int fs_remove_tree(const char *path, struct err *e)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(e, errno, "remove %s", path);
    int rc = nftw(path, on_tree_entry, 16, FTW_DEPTH | FTW_PHYS);
    if (rc == 0 || (rc < 0 && errno == ENOENT))
        return 0;
    return err_sys(e, rc > 0 ? rc : errno, "remove %s", path);
}

/* Pid of the process that wrote the lock file; 0 when it has not got that far. */
static pid_t read_owner(int fd)
{
    char text[32] = {0};
    if (pread(fd, text, sizeof text - 1, 0) <= 0)
        return 0;
    return (pid_t)strtol(text, NULL, 10);
}

/* Open-file-description locks: unlike POSIX ones they hold against the same process too and do not end when
 * somebody else in it opens and closes the file. They carry no pid, so it is written into the file. */
int fs_lock(const char *path, int *out_fd, pid_t *out_owner, struct err *e)
{
    *out_owner = 0;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_sys(e, errno, "open lock %s", path);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        int errnum = errno;
        *out_owner = read_owner(fd);
        close(fd);
        if (errnum == EAGAIN || errnum == EACCES)
            return err_set(e, XDC_ELOCKED, "%s is held by process %d", path, (int)*out_owner);
        return err_sys(e, errnum, "lock %s", path);
    }
    char text[32];
    int n = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n) {
        int errnum = errno ? errno : EIO;
        close(fd);
        return err_sys(e, errnum, "write %s", path);
    }
    *out_fd = fd;
    *out_owner = getpid();
    return 0;
}

int fs_free_bytes(const char *path, uint64_t *out, struct err *e)
{
    struct statvfs s;
    if (statvfs(path, &s) < 0)
        return err_sys(e, errno, "free space of %s", path);
    *out = (uint64_t)s.f_bavail * (s.f_frsize ? s.f_frsize : s.f_bsize);
    return 0;
}

int fs_check_room(const char *dir, const char *what, uint64_t need, uint64_t reserve_mib, struct err *e)
{
    uint64_t available = 0;
    int rc = fs_free_bytes(dir, &available, e);
    need += reserve_mib << 20;
    if (rc == 0 && available < need)
        rc = err_set(e, -ENOSPC, "%s needs %llu MiB with the reserve, %llu MiB are free in %s: make room",
                     what, (unsigned long long)(need >> 20), (unsigned long long)(available >> 20), dir);
    return rc;
}

/* In /tmp anybody may have made the directory before us: it must be a real one, ours, and closed to others.
 */
static int check_private(const char *path, struct err *e)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return err_sys(e, errno, "stat %s", path);
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0)
        return err_set(
            e, -EPERM,
            "%s is not a directory that is ours alone (mode 0700): remove it or set XDG_RUNTIME_DIR", path);
    return 0;
}

int fs_runtime_dir(const char *run_dir, char out[PATH_MAX], struct err *e)
{
    const char *given = getenv("RUNTIME_DIRECTORY");
    if (given && *given) {
        /* systemd lists several directories with colons; the first is ours. */
        int rc = fs_path(out, e, "%.*s", (int)strcspn(given, ":"), given);
        return rc < 0 ? rc : make_dirs(out, 0700, e);
    }
    char real[PATH_MAX];
    if (!realpath(run_dir, real))
        return err_sys(e, errno, "run directory %s", run_dir);
    uint64_t id = XXH3_64bits(real, strlen(real));
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    char base[PATH_MAX];
    /* Set but absent is common in containers and after su. */
    bool use_xdg = xdg && *xdg && access(xdg, W_OK | X_OK) == 0;
    int rc = use_xdg ? fs_path(base, e, "%s/xdc", xdg) : fs_path(base, e, "/tmp/xdc-%u", (unsigned)geteuid());
    if (rc == 0)
        rc = make_dirs(base, 0700, e);
    if (rc == 0 && !use_xdg)
        rc = check_private(base, e);
    if (rc == 0)
        rc = fs_path(out, e, "%s/%016llx", base, (unsigned long long)id);
    return rc < 0 ? rc : make_dirs(out, 0700, e);
}

int fs_program(const char *name, const char *variable, char out[PATH_MAX], struct err *e)
{
    const char *set = getenv(variable);
    if (set && *set) {
        if (strlen(set) >= PATH_MAX)
            return err_sys(e, ENAMETOOLONG, "%s", variable);
        strcpy(out, set);
        return access(out, X_OK) < 0 ? err_sys(e, errno, "start %s, as %s names it: %s", name, variable, out)
                                     : 0;
    }
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return err_sys(e, errno, "find %s: /proc/self/exe", name);
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = '\0';
    static const char *const places[] = {"", "../libexec/xdc/"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        int len = snprintf(out, PATH_MAX, "%s/%s%s", self, places[i], name);
        if (len < PATH_MAX && access(out, X_OK) == 0)
            return 0;
    }
    return err_set(e, -ENOENT, "no program %s in %s or %s/../libexec/xdc (or name it in %s)", name, self,
                   self, variable);
}

int fs_last_round(const char *dir, const char *suffix, uint32_t *out, struct err *e)
{
    DIR *d = opendir(dir);
    if (!d)
        return err_sys(e, errno, "open %s", dir);
    const struct dirent *entry;
    bool found = false;
    while ((entry = readdir(d))) {
        unsigned round;
        int used = 0;
        if (sscanf(entry->d_name, "round-%u%n", &round, &used) == 1 &&
            strcmp(entry->d_name + used, suffix) == 0 && (!found || round > *out)) {
            *out = round;
            found = true;
        }
    }
    closedir(d);
    return found ? 0 : err_set(e, -ENOENT, "%s has no round yet", dir);
}
