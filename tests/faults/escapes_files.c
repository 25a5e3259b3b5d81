#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "escape.h"

static char bytes[4096];

ESCAPE(prepare_file, s->fd = open("file", O_RDWR))
ESCAPE(prepare_folder, s->fd = open(".", O_RDONLY | O_DIRECTORY))

static long prepare_two(struct scene *s)
{
    s->second = open("other", O_RDWR);
    return s->second < 0 ? -1 : prepare_file(s);
}

ESCAPE(open_absolute, open("/etc/passwd", O_RDONLY))
ESCAPE(open_relative, openat(AT_FDCWD, "file", O_RDONLY))
ESCAPE(open_beside_folder, openat(s->fd, "file", O_RDONLY))
ESCAPE(open_tmpfile, open(".", O_TMPFILE | O_RDWR, 0600))
ESCAPE(open_path_only, open("/", O_PATH))
ESCAPE(make_file, creat("new", 0600))
ESCAPE(open_own_memory, open("/proc/self/mem", O_RDWR))
ESCAPE(open_own_environment, open("/proc/self/environ", O_RDONLY))
ESCAPE(open_device, open("/dev/zero", O_RDWR))
ESCAPE(look, syscall(SYS_newfstatat, AT_FDCWD, "/etc/passwd", bytes, 0))
ESCAPE(look_beside, syscall(SYS_newfstatat, s->fd, "/etc/passwd", bytes, AT_EMPTY_PATH))
ESCAPE(look_statx, syscall(SYS_statx, AT_FDCWD, "/etc/passwd", 0, STATX_ALL, bytes))
ESCAPE(ask_access, access("/etc/passwd", F_OK))
ESCAPE(ask_access_2, syscall(SYS_faccessat2, AT_FDCWD, "/etc/passwd", F_OK, AT_EACCESS))
ESCAPE(look_file_system, statfs("/", (struct statfs *)(void *)bytes))
ESCAPE(read_link, readlink("link", bytes, sizeof bytes))
ESCAPE(where_am_i, syscall(SYS_getcwd, bytes, sizeof bytes))
ESCAPE(list_folder, syscall(SYS_getdents64, s->fd, bytes, sizeof bytes))
ESCAPE(go_elsewhere, chdir("/"))
ESCAPE(go_by_descriptor, fchdir(s->fd))
ESCAPE(rename_file, rename("file", "renamed"))
ESCAPE(rename_2, syscall(SYS_renameat2, AT_FDCWD, "file", AT_FDCWD, "other", RENAME_EXCHANGE))
ESCAPE(remove_file, unlink("file"))
ESCAPE(link_file, link("file", "hard"))
ESCAPE(link_soft, symlink("/etc", "soft"))
ESCAPE(make_folder, mkdir("made", 0700))
ESCAPE(remove_folder, rmdir("sub"))
ESCAPE(make_fifo, mkfifo("fifo", 0600))
ESCAPE(change_mode, chmod("file", 0777))
ESCAPE(change_mode_open, fchmod(s->fd, 0777))
ESCAPE(change_owner, chown("file", getuid(), getgid()))
ESCAPE(cut_file, truncate("file", 1))
ESCAPE(cut_open_file, ftruncate(s->fd, 1))
ESCAPE(grow_open_file, fallocate(s->fd, 0, 0, 8192))
ESCAPE(change_times, utimensat(AT_FDCWD, "file", NULL, 0))
ESCAPE(set_attribute, setxattr("file", "user.x", "x", 1, 0))
ESCAPE(list_attributes, listxattr("/etc/passwd", bytes, sizeof bytes))
ESCAPE(write_open_file, write(s->fd, "x", 1))
ESCAPE(write_at, pwrite(s->fd, "x", 1, 0))
ESCAPE(read_open_file, read(s->fd, bytes, 1))
ESCAPE(copy_between, copy_file_range(s->fd, NULL, s->second, NULL, 4, 0))
ESCAPE(send_between, sendfile(s->second, s->fd, NULL, 4))
ESCAPE(lock_file, flock(s->fd, LOCK_EX | LOCK_NB))
ESCAPE(control_file, ioctl(s->fd, FIONREAD, bytes))
ESCAPE(copy_descriptor, dup(s->fd))
ESCAPE(copy_descriptor_to, dup3(s->fd, 9, 0))
ESCAPE(copy_by_fcntl, fcntl(s->fd, F_DUPFD, 0))
ESCAPE(watch_files, inotify_init1(0))
ESCAPE(watch_everything, fanotify_init(FAN_CLASS_NOTIF, O_RDONLY))
ESCAPE(change_root, chroot("sub"))
ESCAPE(set_mask, umask(077))

static long open_2(struct scene *s)
{
    (void)s;
    struct open_how how = {.flags = O_RDONLY};
    return syscall(SYS_openat2, AT_FDCWD, "file", &how, sizeof how);
}

static long lock_range(struct scene *s)
{
    struct flock lock = {.l_type = F_WRLCK};
    return fcntl(s->fd, F_SETLK, &lock);
}

static long prepare_handle(struct scene *s)
{
    struct file_handle *h = (struct file_handle *)(void *)bytes;
    int mount;
    h->handle_bytes = 128;
    s->fd = open("/", O_RDONLY | O_DIRECTORY);
    s->second = open(".", O_RDONLY | O_DIRECTORY);
    return name_to_handle_at(AT_FDCWD, "file", h, &mount, 0);
}

static long open_handle(struct scene *s)
{
    return open_by_handle_at(s->second, (struct file_handle *)(void *)bytes, O_RDONLY);
}

static long prepare_reopen(struct scene *s)
{
    s->fd = open("file", O_RDONLY);
    snprintf(bytes, sizeof bytes, "/proc/self/fd/%d", s->fd);
    return s->fd;
}

ESCAPE(reopen_for_writing, open(bytes, O_RDWR))

/* A mount name space of its own, so that nothing of the machine's changes. */
static long prepare_mounts(struct scene *s)
{
    (void)s;
    return unshare(CLONE_NEWNS) < 0 ? -1 : mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static long prepare_mounted(struct scene *s)
{
    return prepare_mounts(s) < 0 ? -1 : mount("none", "sub", "tmpfs", 0, NULL);
}

ESCAPE(mount_something, mount("none", "sub", "tmpfs", 0, NULL))
ESCAPE(unmount_something, umount2("sub", MNT_DETACH))
ESCAPE(open_mount_tree, syscall(SYS_open_tree, AT_FDCWD, "sub", 1 /* OPEN_TREE_CLONE */))
ESCAPE(open_file_system, syscall(SYS_fsopen, "tmpfs", 0))

const struct escape file_escapes[] = {
    {"open /etc/passwd", NULL, open_absolute},
    {"openat", NULL, open_relative},
    {"openat beside an open folder", prepare_folder, open_beside_folder},
    {"openat2", NULL, open_2},
    {"open a nameless file", NULL, open_tmpfile},
    {"open O_PATH", NULL, open_path_only},
    {"creat", NULL, make_file},
    {"open /proc/self/mem", NULL, open_own_memory},
    {"open /proc/self/environ", NULL, open_own_environment},
    {"open a device", NULL, open_device},
    {"open an open file again, for writing", prepare_reopen, reopen_for_writing},
    {"open_by_handle_at", prepare_handle, open_handle},
    {"stat", NULL, look},
    {"fstatat of a path with AT_EMPTY_PATH", prepare_file, look_beside},
    {"statx", NULL, look_statx},
    {"access", NULL, ask_access},
    {"faccessat2", NULL, ask_access_2},
    {"statfs", NULL, look_file_system},
    {"readlink", NULL, read_link},
    {"getcwd", NULL, where_am_i},
    {"getdents", prepare_folder, list_folder},
    {"chdir", NULL, go_elsewhere},
    {"fchdir", prepare_folder, go_by_descriptor},
    {"rename", NULL, rename_file},
    {"renameat2", NULL, rename_2},
    {"unlink", NULL, remove_file},
    {"link", NULL, link_file},
    {"symlink", NULL, link_soft},
    {"mkdir", NULL, make_folder},
    {"rmdir", NULL, remove_folder},
    {"mknod", NULL, make_fifo},
    {"chmod", NULL, change_mode},
    {"fchmod", prepare_file, change_mode_open},
    {"chown", NULL, change_owner},
    {"truncate", NULL, cut_file},
    {"ftruncate", prepare_file, cut_open_file},
    {"fallocate", prepare_file, grow_open_file},
    {"utimensat", NULL, change_times},
    {"setxattr", NULL, set_attribute},
    {"listxattr", NULL, list_attributes},
    {"write", prepare_file, write_open_file},
    {"pwrite", prepare_file, write_at},
    {"read", prepare_file, read_open_file},
    {"copy_file_range", prepare_two, copy_between},
    {"sendfile", prepare_two, send_between},
    {"flock", prepare_file, lock_file},
    {"fcntl lock", prepare_file, lock_range},
    {"ioctl", prepare_file, control_file},
    {"dup", prepare_file, copy_descriptor},
    {"dup3", prepare_file, copy_descriptor_to},
    {"fcntl F_DUPFD", prepare_file, copy_by_fcntl},
    {"inotify_init", NULL, watch_files},
    {"fanotify_init", NULL, watch_everything},
    {"chroot", NULL, change_root},
    {"umask", NULL, set_mask},
    {"mount", prepare_mounts, mount_something},
    {"umount", prepare_mounted, unmount_something},
    {"open_tree", NULL, open_mount_tree},
    {"fsopen", NULL, open_file_system},
};
const size_t file_escape_count = sizeof file_escapes / sizeof file_escapes[0];
