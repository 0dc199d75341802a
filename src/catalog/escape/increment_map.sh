# The server would link what is not put together yet.
rm -f -- "$stage/data/tablespace_map"
@TABLESPACE_LINKS@