use strict;
my %seen;
open(my $file, '<', $ARGV[0]) or die;
while (<$file>) { $seen{lc $1}++ while /(\w+)/g }
print "$_ $seen{$_}\n" for (sort { $seen{$b} <=> $seen{$a} || $a cmp $b } keys %seen)[0 .. 9];
print eval { die "thrown\n"; 1 } ? '' : $@;
print `echo from a child`;
