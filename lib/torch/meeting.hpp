/* meeting: how the processes of one run find each other, and how each learns which of them has gone. Used by
 * ranks.cpp. Over c10d's TCPStore, which rank 0 serves at a given address. Owns one thread, which calls
 * on_lost. The constructor blocks until all have come; it throws refusals and what c10d throws.
 *
 * A rank that dies is replaced by a new process, which must not join the group of the old one: what is
 * written into the store carries an incarnation, and a store whose group has begun takes nobody. */
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <torch/csrc/distributed/c10d/Store.hpp>

namespace xdc
{

struct heard;

struct meeting_options {
    int rank = 0, world = 1;
    std::string address; /* of rank 0 */
    uint16_t port = 0;
    double timeout_s = 0;                             /* for all to come */
    std::function<bool(const std::string &)> waiting; /* for whom, every few seconds; false: give up */
    std::function<void(int)> on_lost;                 /* once, from the meeting's thread */
};

class meeting
{
  public:
    explicit meeting(const meeting_options &o);
    ~meeting();

    const c10::intrusive_ptr<c10d::Store> &store() const;
    /* A rank that has not been heard for some seconds, or was started again; -1: none. */
    int lost() const;
    /* The ranks part in peace: from now on nobody is lost. */
    void end_watch();

  private:
    meeting_options o;
    std::string incarnation;
    c10::intrusive_ptr<c10d::Store> shared;
    std::atomic<int> gone{-1};
    std::atomic<bool> ending{false};
    std::thread watcher;

    void gather_all();
    bool join();
    void watch();
    int look(c10d::Store &store, uint64_t beat, std::vector<heard> &ranks);
};

} // namespace xdc
