/* What c10d's reducer.hpp needs of a header that Debian's libtorch-dev leaves out: names of types that the
 * reducer holds by pointer and that nothing here uses. Found only where libtorch has none of its own. */
#pragma once
#include <functional>
#include <memory>

#include <ATen/core/Tensor.h>

namespace torch
{
namespace distributed
{
namespace autograd
{

class DistAutogradContext
{
  public:
    using GradCallback = std::function<bool(at::Tensor &)>;
};
using ContextPtr = std::shared_ptr<DistAutogradContext>;

} // namespace autograd
} // namespace distributed
} // namespace torch
