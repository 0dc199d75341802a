place
say "3. done: $target"
