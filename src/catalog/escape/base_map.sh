: >"$stage/data/tablespace_map.new"
@TABLESPACE_MAP@if [ -s "$stage/data/tablespace_map.new" ]; then
    mv -- "$stage/data/tablespace_map.new" "$stage/data/tablespace_map"
else
    rm -- "$stage/data/tablespace_map.new"
fi
