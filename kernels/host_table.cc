//go:build native && cgo && hostdev

// The kernels of the host build by name.
#include "host.h"
#include <map>
#include <string>

namespace host {

static std::map<std::string, Kernel>& table()
{
    static std::map<std::string, Kernel> t; // static constructors of other files fill it
    return t;
}

void add(const Kernel& k) { table()[k.name] = k; }

const Kernel* find(const char* name)
{
    auto i = table().find(name);
    return i == table().end() ? nullptr : &i->second;
}

} // namespace host
