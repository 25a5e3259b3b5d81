/* What heads make of clips in eval mode. */
#include <cerrno>
#include <cstring>

#include "lib/torch/net_impl.hpp"

using xdc::guard;
using xdc::refusal;

namespace
{

/* Adds a head's figures; rows in order, so that the sums are exact functions of the batches. */
void add_head(const at::Tensor &logits, const int64_t *labels, size_t h, struct net_score &out)
{
    at::Tensor log_p = at::log_softmax(logits, 1).cpu().contiguous(), best = logits.argmax(1).cpu();
    int64_t classes = log_p.size(1);
    for (int64_t i = 0; i < log_p.size(0); i++) {
        if (labels[i] == -1)
            continue;
        if (labels[i] < 0 || labels[i] >= classes)
            throw refusal{-EINVAL, "label " + std::to_string(labels[i]) + " for " + std::to_string(classes) +
                                       " classes"};
        out.loss[h] -= static_cast<double>(log_p.data_ptr<float>()[i * classes + labels[i]]);
        out.labelled[h]++;
        out.correct[h] += best.data_ptr<int64_t>()[i] == labels[i];
    }
}

} // namespace

int net_evaluate(struct net *net, enum net_encoder enc, const struct net_batch *b,
                 const int64_t *const *labels, struct net_score *sums, struct err *e)
{
    std::string what = std::string("evaluate the ") + xdc::encoder_name(*net, enc) + " encoder";
    return guard(e, what.c_str(), [&] {
        xdc::use_threads(*net);
        at::NoGradGuard no_grad;
        struct net_score next = *sums;
        at::Tensor features = net->encoder[enc].layers->forward(xdc::input(*net, enc, *b), {});
        for (size_t h = 0; h < net->heads[enc].size(); h++)
            add_head(xdc::head_forward(net->heads[enc][h], features, {}, 0), labels[h], h, next);
        *sums = next;
        return 0;
    });
}
