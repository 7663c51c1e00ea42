"""Every kind of model that can be brought, served together once on each host."""
