<?php
preg_match_all('/\w+/', file_get_contents($argv[1]), $words);
$seen = array_count_values($words[0]);
ksort($seen);
arsort($seen);
print_r(array_slice($seen, 0, 10));
try {
    throw new Exception('thrown');
} catch (Exception $error) {
    echo $error->getMessage(), "\n";
}
function numbers() { for ($i = 0; $i < 5; $i++) yield $i * $i; }
echo json_encode(iterator_to_array(numbers())), hash('sha256', 'x'), "\n";
