"""What people see. The room's law: everything here is pure, from facts to text; nothing reads, waits or prints."""
